/*
 * dev/vga/vbe.c - the Bochs VBE registers: linear modes of any size and depth.
 *
 * Spec   Bochs VBE display API, version 0xb0c5.
 * Runs   on vCPU threads, under the device's lock.
 * Trust  every value comes from the guest. A mode that does not fit video memory stays in the
 * registers as written, but is not shown.
 */
#include "dev/vga/vga_priv.h"

enum { ID_FIRST = 0xb0c0, ID_LAST = 0xb0c5, WIDTH_MAX = 4096, HEIGHT_MAX = 4096, DEPTH_MAX = 32 };

static u32 depth_bits(const struct vga *vga)
{
    return vga->vbe[VBE_BPP] == 15 ? 16 : vga->vbe[VBE_BPP];
}

static bool depth_is_known(u16 depth)
{
    return depth == 4 || depth == 8 || depth == 15 || depth == 16 || depth == 24 || depth == 32;
}

u32 vga_vbe_stride(const struct vga *vga)
{
    return vga->vbe[VBE_VIRTUAL_WIDTH] * depth_bits(vga) / 8;
}

u32 vga_vbe_start(const struct vga *vga)
{
    return vga->vbe[VBE_Y_OFFSET] * vga_vbe_stride(vga) +
           vga->vbe[VBE_X_OFFSET] * depth_bits(vga) / 8;
}

bool vga_vbe_valid(const struct vga *vga)
{
    u64 stride = vga_vbe_stride(vga);
    u64 row = ((u64)vga->vbe[VBE_XRES] * depth_bits(vga) + 7) / 8;
    u64 start = (u64)vga->vbe[VBE_Y_OFFSET] * stride + vga->vbe[VBE_X_OFFSET] * depth_bits(vga) / 8;

    if (vga->vbe[VBE_XRES] == 0 || vga->vbe[VBE_YRES] == 0 || vga->vbe[VBE_XRES] > WIDTH_MAX ||
        vga->vbe[VBE_YRES] > HEIGHT_MAX || !depth_is_known(vga->vbe[VBE_BPP]))
        return false;
    return start + (u64)(vga->vbe[VBE_YRES] - 1) * stride + row <= VGA_MEMORY_BYTES;
}

/* The virtual size follows from the width and the memory there is. */
static void virtual_size_set(struct vga *vga, u32 width)
{
    if (width < vga->vbe[VBE_XRES])
        width = vga->vbe[VBE_XRES];
    vga->vbe[VBE_VIRTUAL_WIDTH] = (u16)width;
    u32 stride = vga_vbe_stride(vga);
    vga->vbe[VBE_VIRTUAL_HEIGHT] = stride ? (u16)min_u64(VGA_MEMORY_BYTES / stride, 0xffff) : 0;
}

/* What a graphics BIOS finds in the old registers after it has switched a linear mode on. */
static void old_registers_follow(struct vga *vga)
{
    unsigned width = vga->vbe[VBE_XRES] / 8, last = vga->vbe[VBE_YRES] - 1u;
    bool is_planar = vga->vbe[VBE_BPP] == 4;

    vga->gfx[GFX_MISC] = (u8)((vga->gfx[GFX_MISC] & ~0x0c) | 0x04 | GFX_MISC_GRAPHICS);
    vga->crtc[CRTC_MODE] |= 3;
    vga->crtc[CRTC_OFFSET] = (u8)(vga_vbe_stride(vga) >> 3);
    vga->crtc[CRTC_WIDTH] = (u8)(width - 1);
    vga->crtc[CRTC_HEIGHT] = (u8)last;
    vga->crtc[CRTC_OVERFLOW] = (u8)((vga->crtc[CRTC_OVERFLOW] & ~0x42) | (last >> 7 & 0x02) |
                                    (last >> 3 & 0x40));
    vga->crtc[CRTC_LINE_COMPARE] = 0xff;
    vga->crtc[CRTC_OVERFLOW] |= 0x10;
    vga->crtc[CRTC_MAX_SCAN] = (u8)((vga->crtc[CRTC_MAX_SCAN] & ~0x9f) | 0x40);
    if (is_planar) {
        vga->seq[SEQ_CLOCK] &= (u8)~SEQ_CLOCK_HALF;
        vga->gfx[GFX_MODE] &= (u8)~0x60;
    } else {
        vga->seq[SEQ_MEMORY] |= SEQ_MEMORY_CHAIN4;
        vga->seq[SEQ_MAP_MASK] |= 0x0f;
        vga->gfx[GFX_MODE] = (u8)((vga->gfx[GFX_MODE] & ~0x60) | 0x40);
    }
}

/* The range that a mode shows; it lies in memory. */
static void mode_clear(struct vga *vga)
{
    u64 bytes = (u64)vga->vbe[VBE_YRES] * vga_vbe_stride(vga);
    __builtin_memset(vga->memory, 0, min_u64(bytes, VGA_MEMORY_BYTES));
}

static void enable_write(struct vga *vga, u16 value)
{
    bool was_on = vga_vbe_on(vga);

    vga->vbe[VBE_ENABLE] = value;
    if (was_on || !(value & VBE_ENABLED)) {
        if (!(value & VBE_ENABLED))
            vga->vbe[VBE_BANK] = 0;
        return;
    }
    vga->vbe[VBE_X_OFFSET] = vga->vbe[VBE_Y_OFFSET] = 0;
    virtual_size_set(vga, vga->vbe[VBE_XRES]);
    if (!vga_vbe_valid(vga))
        return;
    old_registers_follow(vga);
    if (!(value & VBE_NO_CLEAR))
        mode_clear(vga);
}

u16 vga_vbe_read(const struct vga *vga, u16 index)
{
    if (index >= VBE_COUNT)
        return 0;
    if (vga->vbe[VBE_ENABLE] & VBE_GET_CAPS) {
        if (index == VBE_XRES)
            return WIDTH_MAX;
        if (index == VBE_YRES)
            return HEIGHT_MAX;
        if (index == VBE_BPP)
            return DEPTH_MAX;
    }
    return vga->vbe[index];
}

void vga_vbe_write(struct vga *vga, u16 index, u16 value)
{
    switch (index) {
    case VBE_ID:
        if (value >= ID_FIRST && value <= ID_LAST)
            vga->vbe[index] = value;
        break;
    case VBE_XRES:
    case VBE_YRES:
        vga->vbe[index] = value;
        break;
    case VBE_BPP:
        vga->vbe[index] = value == 0 ? 8 : value;
        break;
    case VBE_BANK:
        vga->vbe[index] = value & (VGA_MEMORY_BYTES / 0x10000 - 1);
        break;
    case VBE_ENABLE:
        enable_write(vga, value);
        break;
    case VBE_VIRTUAL_WIDTH:
        virtual_size_set(vga, value);
        break;
    case VBE_X_OFFSET:
    case VBE_Y_OFFSET:
        vga->vbe[index] = value;
        break;
    default:
        break;
    }
}

void vga_vbe_reset(struct vga *vga)
{
    __builtin_memset(vga->vbe, 0, sizeof(vga->vbe));
    vga->vbe_index = 0;
    vga->vbe[VBE_ID] = ID_LAST;
    vga->vbe[VBE_MEMORY_64K] = VGA_MEMORY_BYTES / 0x10000;
}

void vga_set_linear(struct vga *vga, u16 width, u16 height)
{
    vga->vbe[VBE_XRES] = width;
    vga->vbe[VBE_YRES] = height;
    vga->vbe[VBE_BPP] = 32;
    enable_write(vga, VBE_ENABLED | VBE_LINEAR);
    vga->attr_index |= ATTR_INDEX_ON;
}

/*
 * dev/vga/planes.c - the legacy window at 0xa0000: four planes behind 64 or 128 KiB of addresses.
 *
 * Spec   IBM VGA Technical Reference: graphics controller, write modes 0 to 3, read modes 0 and 1;
 *        sequencer memory mode (odd/even, chain 4).
 * Runs   on vCPU threads, under the device's lock.
 * Trust  addresses come from the guest; each is checked against video memory.
 */
#include "dev/vga/vga_priv.h"

enum { WINDOW_64K = 0x10000, WINDOW_MONO = 0x10000, WINDOW_COLOR = 0x18000, WINDOW_TEXT = 0x8000 };
enum { OUTSIDE = 0xffffffff };

/* VALUE's 4 bits, each as a byte of its plane. */
static u32 planes_of(u8 value)
{
    u32 planes = 0;
    for (unsigned plane = 0; plane < 4; plane++)
        if (value >> plane & 1)
            planes |= 0xffu << (8 * plane);
    return planes;
}

/* The address in video memory that the window's OFFSET means, or OUTSIDE. */
static u32 window_address(const struct vga *vga, u32 offset)
{
    switch (vga->gfx[GFX_MISC] >> 2 & 3) {
    case 0:
        return offset;
    case 1:
        if (offset >= WINDOW_64K)
            return OUTSIDE;
        return offset + (vga_vbe_on(vga) ? (u32)vga->vbe[VBE_BANK] * WINDOW_64K : 0);
    case 2:
        return offset - WINDOW_MONO < WINDOW_TEXT ? offset - WINDOW_MONO : OUTSIDE;
    default:
        return offset - WINDOW_COLOR < WINDOW_TEXT ? offset - WINDOW_COLOR : OUTSIDE;
    }
}

/* Where the byte of odd/even ADDRESS is: even ones are plane 0's (or 2's), odd ones plane 1's. */
static u32 odd_even(u32 address, unsigned plane)
{
    return (address & ~1u) << 1 | plane;
}

u8 vga_window_read(struct vga *vga, u32 offset)
{
    u32 address = window_address(vga, offset);
    const u8 *gfx = vga->gfx;

    if (address == OUTSIDE)
        return 0xff;
    if (vga->seq[SEQ_MEMORY] & SEQ_MEMORY_CHAIN4)
        return address < VGA_MEMORY_BYTES ? vga->memory[address] : 0xff;
    if (gfx[GFX_MODE] & GFX_MODE_ODD_EVEN) {
        u32 at = odd_even(address, (gfx[GFX_READ_MAP] & 2) | (address & 1));
        return at < VGA_MEMORY_BYTES ? vga->memory[at] : 0xff;
    }
    if (address >= VGA_MEMORY_BYTES / 4)
        return 0xff;
    vga->latch = load_le32(vga->memory + 4 * (size_t)address);
    if (!(gfx[GFX_MODE] & 0x08))
        return (u8)(vga->latch >> (8 * (gfx[GFX_READ_MAP] & 3)));
    u32 differ = (vga->latch ^ planes_of(gfx[GFX_COMPARE])) & planes_of(gfx[GFX_DONT_CARE]);
    differ |= differ >> 16;
    differ |= differ >> 8;
    return (u8)~differ;
}

static u8 rotate_right(u8 value, unsigned count)
{
    return (u8)(value >> count | value << (8 - count));
}

static u32 logic(const struct vga *vga, u32 value)
{
    switch (vga->gfx[GFX_ROTATE] >> 3 & 3) {
    case 1:
        return value & vga->latch;
    case 2:
        return value | vga->latch;
    case 3:
        return value ^ vga->latch;
    default:
        return value;
    }
}

/* The four bytes that VALUE becomes before the map mask. */
static u32 write_value(const struct vga *vga, u8 value)
{
    const u8 *gfx = vga->gfx;
    unsigned rotate = gfx[GFX_ROTATE] & 7;
    u8 bits = gfx[GFX_BIT_MASK];
    u32 planes, set;

    switch (gfx[GFX_MODE] & 3) {
    case 0:
        set = planes_of(gfx[GFX_ENABLE_SET_RESET]);
        planes = rotate_right(value, rotate) * 0x01010101u;
        planes = (planes & ~set) | (planes_of(gfx[GFX_SET_RESET]) & set);
        break;
    case 1:
        return vga->latch;
    case 2:
        planes = planes_of(value & 0x0f);
        break;
    default:
        bits &= rotate_right(value, rotate);
        planes = planes_of(gfx[GFX_SET_RESET]);
        break;
    }
    u32 mask = bits * 0x01010101u;
    return (logic(vga, planes) & mask) | (vga->latch & ~mask);
}

void vga_window_write(struct vga *vga, u32 offset, u8 value)
{
    u32 address = window_address(vga, offset);
    u8 map_mask = vga->seq[SEQ_MAP_MASK];

    if (address == OUTSIDE)
        return;
    if (vga->seq[SEQ_MEMORY] & SEQ_MEMORY_CHAIN4) {
        if ((map_mask >> (address & 3) & 1) && address < VGA_MEMORY_BYTES)
            vga->memory[address] = value;
        return;
    }
    if (vga->gfx[GFX_MODE] & GFX_MODE_ODD_EVEN) {
        u32 at = odd_even(address, address & 1);
        if ((map_mask >> (address & 1) & 1) && at < VGA_MEMORY_BYTES)
            vga->memory[at] = value;
        return;
    }
    if (address >= VGA_MEMORY_BYTES / 4)
        return;
    u8 *at = vga->memory + 4 * (size_t)address;
    u32 mask = planes_of(map_mask);
    store_le32(at, (load_le32(at) & ~mask) | (write_value(vga, value) & mask));
}

/*
 * dev/vga/ports.c - the VGA ports: sequencer, graphics controller, CRTC, attribute controller, DAC.
 *
 * Spec   IBM VGA Technical Reference: the registers and their reserved bits.
 * Runs   on vCPU threads, under the device's lock.
 * Trust  every value comes from the guest; indexes beyond the last register read 0.
 */
#include "dev/vga/vga_priv.h"

enum { FRAME_NS = 16666667, LINE_NS = 31778, RETRACE_PART = 12, BLANK_PART = 5 };
enum { STATUS_BLANK = 0x01, STATUS_RETRACE = 0x08 };
enum { CRTC_PROTECT = 0x80, CRTC_PROTECTED_COUNT = 8, CRTC_LINE_COMPARE_BIT = 0x10 };
enum { DAC_IS_WRITTEN = 0, DAC_IS_READ = 3 };
enum { PORT_FIRST = 0x3b0, PORT_MONO_END = 0x3c0, PORT_COLOR_FIRST = 0x3d0 };

static const u8 seq_masks[SEQ_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0xff};
static const u8 gfx_masks[GFX_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

/* What the beam does now: the time says it, so that a guest that waits for the retrace gets it. */
static u8 input_status(struct vga *vga)
{
    u64 now_ns = vm_clock_now(vga->clock);
    u8 status = 0;

    if (now_ns % FRAME_NS > FRAME_NS - FRAME_NS / RETRACE_PART)
        status |= STATUS_RETRACE | STATUS_BLANK;
    if (now_ns % LINE_NS > LINE_NS - LINE_NS / BLANK_PART)
        status |= STATUS_BLANK;
    vga->attr_takes_data = 0;
    return status;
}

static void attr_write(struct vga *vga, u8 value)
{
    unsigned index = vga->attr_index & 0x1f;

    vga->attr_takes_data ^= 1;
    if (vga->attr_takes_data) {
        vga->attr_index = value & 0x3f;
        return;
    }
    if (index < 16 && !(vga->attr_index & ATTR_INDEX_ON))
        vga->attr[index] = value & 0x3f;
    else if (index >= 16 && index < ATTR_COUNT)
        vga->attr[index] = value;
}

static void crtc_write(struct vga *vga, u8 value)
{
    unsigned index = vga->crtc_index;

    if (index >= CRTC_COUNT)
        return;
    if (index < CRTC_PROTECTED_COUNT && (vga->crtc[CRTC_RETRACE_END] & CRTC_PROTECT)) {
        if (index == CRTC_OVERFLOW)
            vga->crtc[index] = (u8)((vga->crtc[index] & ~CRTC_LINE_COMPARE_BIT) |
                                    (value & CRTC_LINE_COMPARE_BIT));
        return;
    }
    vga->crtc[index] = value;
}

static u8 dac_read(struct vga *vga)
{
    u8 value = vga->dac[vga->dac_read_index][vga->dac_component];

    if (++vga->dac_component == 3) {
        vga->dac_component = 0;
        vga->dac_read_index++;
    }
    return value;
}

/* A colour takes effect with its third part. */
static void dac_write(struct vga *vga, u8 value)
{
    vga->dac_pending[vga->dac_component] = vga->vbe[VBE_ENABLE] & VBE_8BIT_DAC ? value
                                                                               : value & 0x3f;
    if (++vga->dac_component < 3)
        return;
    vga->dac_component = 0;
    __builtin_memcpy(vga->dac[vga->dac_write_index++], vga->dac_pending, 3);
}

/* The CRTC and the status register are at 0x3dx or at 0x3bx; at the other place nobody answers. */
static bool is_elsewhere(const struct vga *vga, u16 port)
{
    return vga->misc & MISC_COLOR ? port < PORT_MONO_END : port >= PORT_COLOR_FIRST;
}

u8 vga_port_read(struct vga *vga, u16 port)
{
    unsigned attr = vga->attr_index & 0x1f;

    if (is_elsewhere(vga, port))
        return 0xff;
    switch (port) {
    case 0x3c0:
        return vga->attr_takes_data ? 0 : vga->attr_index;
    case 0x3c1:
        return attr < ATTR_COUNT ? vga->attr[attr] : 0;
    case 0x3c2:
        return 0x10; /* a colour monitor is connected */
    case 0x3c4:
        return vga->seq_index;
    case 0x3c5:
        return vga->seq_index < SEQ_COUNT ? vga->seq[vga->seq_index] : 0;
    case 0x3c6:
        return vga->dac_mask;
    case 0x3c7:
        return vga->dac_state;
    case 0x3c8:
        return vga->dac_write_index;
    case 0x3c9:
        return dac_read(vga);
    case 0x3ca:
        return vga->feature;
    case 0x3cc:
        return vga->misc;
    case 0x3ce:
        return vga->gfx_index;
    case 0x3cf:
        return vga->gfx_index < GFX_COUNT ? vga->gfx[vga->gfx_index] : 0;
    case 0x3b4:
    case 0x3d4:
        return vga->crtc_index;
    case 0x3b5:
    case 0x3d5:
        return vga->crtc_index < CRTC_COUNT ? vga->crtc[vga->crtc_index] : 0;
    case 0x3ba:
    case 0x3da:
        return input_status(vga);
    default:
        return 0xff;
    }
}

static void dac_port_write(struct vga *vga, u16 port, u8 value)
{
    switch (port) {
    case 0x3c6:
        vga->dac_mask = value;
        break;
    case 0x3c7:
        vga->dac_read_index = value;
        vga->dac_component = 0;
        vga->dac_state = DAC_IS_READ;
        break;
    case 0x3c8:
        vga->dac_write_index = value;
        vga->dac_component = 0;
        vga->dac_state = DAC_IS_WRITTEN;
        break;
    default:
        dac_write(vga, value);
        break;
    }
}

void vga_port_write(struct vga *vga, u16 port, u8 value)
{
    if (is_elsewhere(vga, port))
        return;
    switch (port) {
    case 0x3c0:
    case 0x3c1:
        attr_write(vga, value);
        break;
    case 0x3c2:
        vga->misc = value & 0xef;
        break;
    case 0x3c4:
        vga->seq_index = value & 7;
        break;
    case 0x3c5:
        vga->seq[vga->seq_index] = value & seq_masks[vga->seq_index];
        break;
    case 0x3c6:
    case 0x3c7:
    case 0x3c8:
    case 0x3c9:
        dac_port_write(vga, port, value);
        break;
    case 0x3ce:
        vga->gfx_index = value & 0x0f;
        break;
    case 0x3cf:
        vga->gfx[vga->gfx_index] = value & gfx_masks[vga->gfx_index];
        break;
    case 0x3b4:
    case 0x3d4:
        vga->crtc_index = value;
        break;
    case 0x3b5:
    case 0x3d5:
        crtc_write(vga, value);
        break;
    case 0x3ba:
    case 0x3da:
        vga->feature = value & 0x10;
        break;
    default:
        break;
    }
}

void vga_ports_reset(struct vga *vga)
{
    vga->seq_index = vga->gfx_index = vga->crtc_index = vga->attr_index = 0;
    vga->attr_takes_data = 0;
    vga->misc = MISC_COLOR;
    vga->feature = 0;
    __builtin_memset(vga->seq, 0, sizeof(vga->seq));
    __builtin_memset(vga->gfx, 0, sizeof(vga->gfx));
    __builtin_memset(vga->crtc, 0, sizeof(vga->crtc));
    __builtin_memset(vga->attr, 0, sizeof(vga->attr));
    __builtin_memset(vga->dac, 0, sizeof(vga->dac));
    __builtin_memset(vga->dac_pending, 0, sizeof(vga->dac_pending));
    vga->dac_mask = 0xff;
    vga->dac_state = vga->dac_component = 0;
    vga->dac_read_index = vga->dac_write_index = 0;
    vga->latch = 0;
}

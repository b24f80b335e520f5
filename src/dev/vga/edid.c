/*
 * dev/vga/edid.c - the identity of the monitor that is not there: which sizes it likes.
 *
 * Spec   VESA Enhanced EDID, release A, revision 2 (structure 1.4).
 * Runs   while no vCPU runs, or under the device's lock.
 */
#include "dev/vga/vga_priv.h"

enum { HORIZONTAL_BLANK = 160, VERTICAL_BLANK = 40, REFRESH_HZ = 60, DOTS_PER_CM = 38 };

/* A detailed timing: the preferred mode, with reduced blanking. */
static void timing_put(u8 *at, u32 width, u32 height)
{
    u32 clock_10khz = (width + HORIZONTAL_BLANK) * (height + VERTICAL_BLANK) * REFRESH_HZ / 10000;
    u32 width_mm = width * 10 / DOTS_PER_CM, height_mm = height * 10 / DOTS_PER_CM;

    store_le16(at, (u16)clock_10khz);
    at[2] = (u8)width;
    at[3] = HORIZONTAL_BLANK;
    at[4] = (u8)(width >> 8 << 4);
    at[5] = (u8)height;
    at[6] = VERTICAL_BLANK;
    at[7] = (u8)(height >> 8 << 4);
    at[8] = 48;          /* horizontal front porch */
    at[9] = 32;          /* and sync width */
    at[10] = 3 << 4 | 6; /* vertical, the same */
    at[12] = (u8)width_mm;
    at[13] = (u8)height_mm;
    at[14] = (u8)((width_mm >> 8 << 4) | height_mm >> 8);
    at[17] = 0x1e; /* digital separate sync, both positive */
}

static void text_put(u8 *at, u8 kind, const char *text)
{
    at[3] = kind;
    __builtin_memset(at + 5, ' ', 13);
    unsigned i = 0;
    for (; text[i] != 0 && i < 12; i++)
        at[5 + i] = (u8)text[i];
    at[5 + i] = '\n';
}

void vga_edid_fill(u8 edid[VGA_EDID_BYTES], u32 width, u32 height)
{
    static const u8 header[8] = {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0};
    /* Chromaticity of sRGB. */
    static const u8 colors[10] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    u8 sum = 0;

    __builtin_memset(edid, 0, VGA_EDID_BYTES);
    __builtin_memcpy(edid, header, sizeof(header));
    edid[8] = 0x06; /* the maker's letters, ATL, five bits each */
    edid[9] = 0x8c;
    store_le16(edid + 10, 1);
    edid[16] = 1;
    edid[17] = 30; /* years after 1990 */
    edid[18] = 1;  /* structure 1.4 */
    edid[19] = 4;
    edid[20] = 0xa5; /* digital, 8 bits a colour, DisplayPort */
    edid[21] = (u8)(width / DOTS_PER_CM);
    edid[22] = (u8)(height / DOTS_PER_CM);
    edid[23] = 120;  /* gamma 2.2 */
    edid[24] = 0x06; /* sRGB; the first timing is preferred */
    __builtin_memcpy(edid + 25, colors, sizeof(colors));
    edid[35] = 0x21; /* 640x480, 800x600 at 60 Hz */
    edid[36] = 0x08; /* 1024x768 at 60 Hz */
    for (unsigned i = 38; i < 54; i += 2)
        edid[i] = edid[i + 1] = 1; /* no standard timing */
    timing_put(edid + 54, width, height);
    text_put(edid + 72, 0xfc, "Atoll");
    edid[90 + 3] = 0xfd; /* limits: 50 to 75 Hz, 30 to 160 kHz, 300 MHz */
    edid[90 + 5] = 50;
    edid[90 + 6] = 75;
    edid[90 + 7] = 30;
    edid[90 + 8] = 160;
    edid[90 + 9] = 30;
    edid[90 + 10] = 1;
    edid[108 + 3] = 0x10; /* an empty block */
    for (unsigned i = 0; i < VGA_EDID_BYTES - 1; i++)
        sum = (u8)(sum + edid[i]);
    edid[VGA_EDID_BYTES - 1] = (u8)-sum;
}

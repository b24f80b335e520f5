/*
 * dev/scancodes.c - what keyboards send for a key, and how the controller translates it.
 *
 * Spec   IBM PS/2 Technical Reference: scan code sets 1 and 2, and the controller's translation.
 * Runs   anywhere; nothing here changes.
 */
#include "dev/scancodes.h"

enum { PREFIX = 0xe0, PREFIX_PAUSE = 0xe1, UP_2 = 0xf0, UP_1 = 0x80 };
enum { CODE_LAST_PLAIN = 88, CODE_SYSRQ = 99, CODE_PAUSE = 119, SET1_SYSRQ = 0x37 };
enum { SHIFT_1 = 0x2a, TRANSLATED = 0x85 };

/* The controller's translation. From 0x85 on a byte stays what it is. */
static const u8 translation[TRANSLATED] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
    0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
    0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
    0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
    0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
    0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
    0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
    0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
    0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54,
};

/* Keys with the prefix 0xe0, by code: the byte of set 1 after it. */
static const u8 prefixed[] = {
    [96] = 0x1c,  [97] = 0x1d,  [98] = 0x35,  [100] = 0x38, [102] = 0x47, [103] = 0x48,
    [104] = 0x49, [105] = 0x4b, [106] = 0x4d, [107] = 0x4f, [108] = 0x50, [109] = 0x51,
    [110] = 0x52, [111] = 0x53, [113] = 0x20, [114] = 0x2e, [115] = 0x30, [116] = 0x5e,
    [125] = 0x5b, [126] = 0x5c, [127] = 0x5d,
};

u8 scancodes_translate(u8 set2)
{
    return set2 < TRANSLATED ? translation[set2] : set2;
}

bool scancodes_repeats(u16 code)
{
    return code != CODE_PAUSE;
}

unsigned scancodes_set1(u16 code, bool is_down, u8 ret_bytes[SCANCODES_MAX])
{
    static const u8 pause[6] = {PREFIX_PAUSE, 0x1d, 0x45, PREFIX_PAUSE, 0x9d, 0xc5};
    u8 up = is_down ? 0 : UP_1;

    if (code >= 1 && code <= CODE_LAST_PLAIN) {
        ret_bytes[0] = (u8)code | up;
        return 1;
    }
    if (code == CODE_PAUSE && is_down) {
        __builtin_memcpy(ret_bytes, pause, sizeof(pause));
        return sizeof(pause);
    }
    if (code == CODE_SYSRQ) { /* as if with a Shift of its own */
        const u8 keys[2] = {is_down ? SHIFT_1 : SET1_SYSRQ, is_down ? SET1_SYSRQ : SHIFT_1};
        for (unsigned i = 0; i < 2; i++) {
            ret_bytes[2 * i] = PREFIX;
            ret_bytes[2 * i + 1] = keys[i] | up;
        }
        return 4;
    }
    if (code >= sizeof(prefixed) || prefixed[code] == 0)
        return 0;
    ret_bytes[0] = PREFIX;
    ret_bytes[1] = prefixed[code] | up;
    return 2;
}

/* The byte of set 2 that the controller translates to SET1. Where there are two, the higher one is
 * what keyboards send (F7, SysRq). */
static u8 set2_of(u8 set1)
{
    for (unsigned byte = TRANSLATED; byte-- > 0;)
        if (translation[byte] == set1)
            return (u8)byte;
    return 0;
}

unsigned scancodes_set2(u16 code, bool is_down, u8 ret_bytes[SCANCODES_MAX])
{
    u8 set1[SCANCODES_MAX];
    unsigned count = scancodes_set1(code, is_down, set1), used = 0;

    for (unsigned i = 0; i < count; i++) {
        if (set1[i] == PREFIX || set1[i] == PREFIX_PAUSE) {
            ret_bytes[used++] = set1[i];
            continue;
        }
        if (set1[i] & UP_1)
            ret_bytes[used++] = UP_2;
        ret_bytes[used++] = set2_of(set1[i] & 0x7f);
    }
    return used;
}

/*
 * back/display/keymap.c - what viewers call keys, as Linux input event codes.
 *
 * Spec   X11 keysyms (keysymdef.h); Linux input-event-codes.h; the RFB community's description of
 *        the QEMU extended key event.
 * Runs   on the display's thread.
 */
#include "back/display/keymap.h"

/* A US keyboard's rows of letters: each string starts at a key's code and goes on key by key. */
struct row {
    u8 code;
    const char *plain, *shifted;
};

static const struct row rows[] = {
    {2, "1234567890-=", "!@#$%^&*()_+"},
    {16, "qwertyuiop[]", "QWERTYUIOP{}"},
    {30, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    {43, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    {57, " ", " "},
};

struct special {
    u16 keysym;
    u8 code;
};

static const struct special specials[] = {
    {0xff08, 14},  /* BackSpace */
    {0xff09, 15},  /* Tab */
    {0xfe20, 15},  /* Tab with Shift */
    {0xff0d, 28},  /* Return */
    {0xff1b, 1},   /* Escape */
    {0xff13, 119}, /* Pause */
    {0xff14, 70},  /* Scroll Lock */
    {0xff15, 99},  /* SysRq */
    {0xff61, 99},  /* Print */
    {0xff50, 102}, /* Home */
    {0xff51, 105}, /* Left */
    {0xff52, 103}, /* Up */
    {0xff53, 106}, /* Right */
    {0xff54, 108}, /* Down */
    {0xff55, 104}, /* Page Up */
    {0xff56, 109}, /* Page Down */
    {0xff57, 107}, /* End */
    {0xff63, 110}, /* Insert */
    {0xffff, 111}, /* Delete */
    {0xff67, 127}, /* Menu */
    {0xff7f, 69},  /* Num Lock */
    {0xff8d, 96},  /* keypad: Enter, then Home to Delete, then the operators and digits */
    {0xff95, 71},  {0xff96, 75},  {0xff97, 72},  {0xff98, 77},  {0xff99, 80},  {0xff9a, 73},
    {0xff9b, 81},  {0xff9c, 79},  {0xff9d, 76},  {0xff9e, 82},  {0xff9f, 83},  {0xffaa, 55},
    {0xffab, 78},  {0xffac, 121}, {0xffad, 74},  {0xffae, 83},  {0xffaf, 98},  {0xffb0, 82},
    {0xffb1, 79},  {0xffb2, 80},  {0xffb3, 81},  {0xffb4, 75},  {0xffb5, 76},  {0xffb6, 77},
    {0xffb7, 71},  {0xffb8, 72},  {0xffb9, 73},  {0xffbd, 117}, {0xffe1, 42}, /* Shift left and
                                                                                 right, Control,
                                                                                 Caps Lock, Meta,
                                                                                 Alt, Super */
    {0xffe2, 54},  {0xffe3, 29},  {0xffe4, 97},  {0xffe5, 58},  {0xffe7, 125}, {0xffe8, 126},
    {0xffe9, 56},  {0xffea, 100}, {0xffeb, 125}, {0xffec, 126}, {0xfe03, 100}, /* AltGr */
};

enum { KEYSYM_F1 = 0xffbe, KEYSYM_F10 = 0xffc7, KEYSYM_F12 = 0xffc9, CODE_F1 = 59, CODE_F11 = 87 };

static u16 letter_find(u32 keysym, bool *ret_shifted)
{
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned key = 0; rows[i].plain[key] != 0; key++) {
            *ret_shifted = (u8)rows[i].plain[key] != keysym;
            if (!*ret_shifted || (u8)rows[i].shifted[key] == keysym)
                return (u16)(rows[i].code + key);
        }
    *ret_shifted = false;
    return 0;
}

u16 keymap_from_keysym(u32 keysym, bool *ret_shifted)
{
    bool shifted = false;
    u16 code = keysym < 0x80 ? letter_find(keysym, &shifted) : 0;

    for (unsigned i = 0; code == 0 && i < ARRAY_LEN(specials); i++)
        if (specials[i].keysym == keysym)
            code = specials[i].code;
    if (keysym >= KEYSYM_F1 && keysym <= KEYSYM_F10)
        code = (u16)(CODE_F1 + keysym - KEYSYM_F1);
    else if (keysym > KEYSYM_F10 && keysym <= KEYSYM_F12)
        code = (u16)(CODE_F11 + keysym - KEYSYM_F10 - 1);
    if (ret_shifted)
        *ret_shifted = shifted;
    return code;
}

/* Keys with the prefix 0xe0. The others have their scan code as their input event code. */
static const u8 prefixed[128] = {
    [0x1c] = 96,  [0x1d] = 97,  [0x20] = 113, [0x2e] = 114, [0x30] = 115, [0x35] = 98,
    [0x37] = 99,  [0x38] = 100, [0x46] = 119, [0x47] = 102, [0x48] = 103, [0x49] = 104,
    [0x4b] = 105, [0x4d] = 106, [0x4f] = 107, [0x50] = 108, [0x51] = 109, [0x52] = 110,
    [0x53] = 111, [0x5b] = 125, [0x5c] = 126, [0x5d] = 127, [0x5e] = 116,
};

u16 keymap_from_xt(u32 scancode)
{
    if (scancode > 0xff)
        return 0;
    if (scancode & 0x80)
        return prefixed[scancode & 0x7f];
    if (scancode == 0x54)
        return 99; /* SysRq */
    if (scancode == 0x73)
        return 89; /* the key before Shift on Japanese keyboards */
    return scancode <= 0x58 ? (u16)scancode : 0;
}

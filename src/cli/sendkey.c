/*
 * cli/sendkey.c - `atoll sendkey`: keys pressed at a running VM's keyboard.
 *
 * Runs   on the main thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/exit_status.h"
#include "cli/help.h"
#include "cli/rfb_client.h"
#include "cli/screenshot.h"
#include "cli/vm_folder.h"

enum { KEYS_MAX = 8, KEY_NAME_BYTES = 16, KEYSYM_SHIFT = 0xffe1, KEYSYM_F1 = 0xffbe };

struct key_name {
    const char *name;
    u32 keysym;
};

static const struct key_name names[] = {
    {"enter", 0xff0d},    {"return", 0xff0d},    {"tab", 0xff09},     {"esc", 0xff1b},
    {"escape", 0xff1b},   {"backspace", 0xff08}, {"space", ' '},      {"delete", 0xffff},
    {"insert", 0xff63},   {"home", 0xff50},      {"end", 0xff57},     {"pageup", 0xff55},
    {"pagedown", 0xff56}, {"up", 0xff52},        {"down", 0xff54},    {"left", 0xff51},
    {"right", 0xff53},    {"ctrl", 0xffe3},      {"control", 0xffe3}, {"alt", 0xffe9},
    {"shift", 0xffe1},    {"super", 0xffeb},     {"menu", 0xff67},    {"print", 0xff61},
    {"minus", '-'},       {"plus", '+'},         {"capslock", 0xffe5}};

/* The keysym of one key's name, or 0. */
static u32 keysym_of(const char *name, size_t length)
{
    char text[KEY_NAME_BYTES];
    unsigned number = 0;

    if (length == 1 && name[0] > ' ' && name[0] < 0x7f)
        return (u8)name[0];
    if (length == 0 || length >= sizeof(text))
        return 0;
    memcpy(text, name, length);
    text[length] = 0;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(text, names[i].name) == 0)
            return names[i].keysym;
    char rest;
    if ((text[0] == 'f' || text[0] == 'F') && sscanf(text + 1, "%u%c", &number, &rest) == 1 &&
        number >= 1 && number <= 12)
        return KEYSYM_F1 + number - 1;
    return 0;
}

/* True for characters that need Shift on a US keyboard. */
static bool needs_shift(u32 keysym)
{
    return keysym < 0x7f &&
           ((keysym >= 'A' && keysym <= 'Z') || strchr("~!@#$%^&*()_+{}|:\"<>?", (int)keysym));
}

/* Keys that are down together, pressed in order and let go in the other. */
static int chord_send(struct rfb_client *client, const u32 *keysyms, unsigned count,
                      struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < count; i++)
        r = rfb_client_key(client, keysyms[i], true, err);
    for (unsigned i = count; r == 0 && i-- > 0;)
        r = rfb_client_key(client, keysyms[i], false, err);
    /* A guest's keyboard holds few keys that it has not been asked for. */
    return r == 0 ? rfb_client_sync(client, err) : r;
}

/* "ctrl-alt-f2", "a", "enter" */
static int chord_parse_send(struct rfb_client *client, const char *text, struct err *err)
{
    u32 keysyms[KEYS_MAX];
    unsigned count = 0;

    for (const char *at = text; at != NULL;) {
        const char *end = at[0] != 0 && at[1] != 0 ? strchr(at + 1, '-') : NULL;
        u32 keysym = keysym_of(at, end ? (size_t)(end - at) : strlen(at));
        if (keysym == 0 || count + 1 >= KEYS_MAX)
            return err_set(err, -EINVAL,
                           "'%s': keys are characters, f1 to f12, and names such as enter, esc, "
                           "tab, up, ctrl, alt, joined by '-': ctrl-alt-f2; text goes with --text",
                           text);
        if (needs_shift(keysym))
            keysyms[count++] = KEYSYM_SHIFT;
        keysyms[count++] = keysym;
        at = end ? end + 1 : NULL;
    }
    return chord_send(client, keysyms, count, err);
}

static int text_send(struct rfb_client *client, const char *text, struct err *err)
{
    int r = 0;

    for (; r == 0 && *text != 0; text++) {
        u32 keysym = *text == '\n' ? 0xff0d : *text == '\t' ? 0xff09 : (u8)*text;
        const u32 keysyms[2] = {needs_shift(keysym) ? KEYSYM_SHIFT : keysym, keysym};
        if ((u8)*text >= 0x7f)
            return err_set(err, -EINVAL, "--text: only characters of a US keyboard can be typed");
        r = chord_send(client, keysyms, needs_shift(keysym) ? 2 : 1, err);
    }
    return r;
}

int sendkey_main(const char *const *argv, struct err *err)
{
    char path[VM_FOLDER_PATH_BYTES];
    struct rfb_client client;
    int r = 0;

    if (argv[0] != NULL && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0))
        return fputs(help_sendkey, stdout) >= 0 ? 0 : EXIT_STATUS_HOST;
    if (argv[0] == NULL || argv[1] == NULL) {
        err_set(err, -EINVAL, "give a VM and keys: atoll sendkey debian-12 ctrl-alt-f2");
        return EXIT_STATUS_ARGUMENT;
    }
    if (vm_folder_screen(argv[0], false, path, err) < 0 || rfb_client_open(&client, path, err) < 0)
        return EXIT_STATUS_FILE;
    for (unsigned i = 1; r == 0 && argv[i] != NULL; i++) {
        bool is_text = strcmp(argv[i], "--text") == 0;
        if (is_text && argv[i + 1] == NULL)
            r = err_set(err, -EINVAL, "--text needs a text");
        else
            r = is_text ? text_send(&client, argv[++i], err)
                        : chord_parse_send(&client, argv[i], err);
    }
    rfb_client_close(&client);
    return r == 0 ? 0 : r == -EINVAL ? EXIT_STATUS_ARGUMENT : EXIT_STATUS_HOST;
}

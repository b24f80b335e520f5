/*
 * cli/help.h - what `atoll --help` and its sub-commands print: examples first.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

extern const char help_main[];
extern const char help_run[];
extern const char help_image[];
extern const char help_vol[];
extern const char help_screenshot[], help_sendkey[];
extern const char help_doctor[];

#endif

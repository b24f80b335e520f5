/*
 * cli/screenshot.h - `atoll screenshot` and `atoll sendkey`: seeing and typing without a viewer.
 *
 * ARGV starts after the command's name. They return the exit status, with ERR for what failed.
 */
#ifndef CLI_SCREENSHOT_H
#define CLI_SCREENSHOT_H

#include "base/err.h"

int screenshot_main(const char *const *argv, struct err *err);
int sendkey_main(const char *const *argv, struct err *err);

#endif

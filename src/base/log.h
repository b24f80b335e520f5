/*
 * base/log.h - log lines for people; bound at link (host/log.c in hosted programs).
 *
 * Threads: any. SUBJECT is the module's name ("pit", "virtio-blk"). A guest can reach a log line,
 * so lines that a guest can repeat without bound use log_once_per_second or a counter instead.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_line(enum log_level level, const char *subject, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(subject, ...) log_line(LOG_ERROR, subject, __VA_ARGS__)
#define log_warn(subject, ...) log_line(LOG_WARN, subject, __VA_ARGS__)
#define log_info(subject, ...) log_line(LOG_INFO, subject, __VA_ARGS__)
#define log_debug(subject, ...) log_line(LOG_DEBUG, subject, __VA_ARGS__)

#endif

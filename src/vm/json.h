/*
 * vm/json.h - takes the members of a JSON object one by one, strictly.
 *
 * Every take notes its key; json_object_end() then refuses any key that nobody took. The first
 * error stays: later takes do nothing, so that a parser reads as a list.
 */
#ifndef VM_JSON_H
#define VM_JSON_H

#include "base/err.h"
#include "base/types.h"

struct json_t;

enum { JSON_KEYS_MAX = 40, JSON_WHERE_BYTES = 64 };

struct json_object {
    struct json_t *value;         /* borrowed */
    char where[JSON_WHERE_BYTES]; /* "disks[1].", before the key in messages */
    const char *keys[JSON_KEYS_MAX];
    unsigned key_count;
    struct err *err; /* borrowed */
    int result;      /* 0 or the first error */
};

/* Begins with VALUE, which must be an object; WHERE names it in messages. */
void json_object_begin(struct json_object *object, struct json_t *value, const char *where,
                       struct err *err);
/* 0, or the first error; a key that nobody asked for is one. */
MUST_CHECK int json_object_end(struct json_object *object);
/* Records an error about KEY. */
void json_object_fail(struct json_object *object, const char *key, const char *what);

/* FALLBACK of NULL: the key must be there. */
const char *json_take_string(struct json_object *object, const char *key, const char *fallback);
/* The same, but NULL when the key is not there. */
const char *json_take_optional(struct json_object *object, const char *key);
/* FALLBACK of -1: the key must be there. */
s64 json_take_integer(struct json_object *object, const char *key, s64 fallback, s64 min, s64 max);
bool json_take_bool(struct json_object *object, const char *key, bool fallback);
/* The index of the string in CHOICES (ended by NULL); FALLBACK of -1: the key must be there. */
int json_take_choice(struct json_object *object, const char *key, const char *const *choices,
                     int fallback);
/* The array, or NULL when the key is not there (or on error); at most MAX elements. */
struct json_t *json_take_array(struct json_object *object, const char *key, size_t max);

#endif

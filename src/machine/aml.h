/*
 * machine/aml.h - writes ACPI Machine Language: the byte code of a DSDT.
 *
 * Objects that have a length (scopes, devices, methods, packages) are opened by aml_begin_* and
 * closed by aml_end with the mark that the opening returned; the length is filled in then. Running
 * out of room sets FULL, and everything written afterwards is dropped: the caller checks once, at
 * the end.
 *
 * Names are paths as in ASL: "\\_SB_.PCI0", segments of exactly four characters.
 */
#ifndef MACHINE_AML_H
#define MACHINE_AML_H

#include "base/types.h"

struct aml {
    u8 *data; /* borrowed */
    size_t bytes, capacity;
    bool full;
};

enum aml_op {
    AML_ARG0 = 0x68,
    AML_ARG3 = 0x6b,
    AML_RETURN = 0xa4,
    AML_STORE = 0x70,
    AML_IF = 0xa0,
    AML_ELSE = 0xa1
};

void aml_init(struct aml *aml, void *to, size_t capacity);

void aml_byte(struct aml *aml, u8 value);
void aml_bytes(struct aml *aml, const void *from, size_t bytes);
void aml_path(struct aml *aml, const char *path);
void aml_integer(struct aml *aml, u64 value);
void aml_string(struct aml *aml, const char *text);
/* The compressed form of a plug-and-play id such as "PNP0A08". */
void aml_eisa_id(struct aml *aml, const char *id);
/* Name (PATH, ...): the object that follows is its value. */
void aml_name(struct aml *aml, const char *path);
void aml_name_integer(struct aml *aml, const char *path, u64 value);

MUST_CHECK size_t aml_begin_scope(struct aml *aml, const char *path);
MUST_CHECK size_t aml_begin_device(struct aml *aml, const char *path);
MUST_CHECK size_t aml_begin_method(struct aml *aml, const char *path, unsigned arg_count);
MUST_CHECK size_t aml_begin_package(struct aml *aml, u8 element_count);
/* If or Else: OP, then its predicate (for If) and body follow. */
MUST_CHECK size_t aml_begin_block(struct aml *aml, enum aml_op op);
void aml_end(struct aml *aml, size_t mark);

/* A resource template: a buffer of descriptors. */
MUST_CHECK size_t aml_begin_resources(struct aml *aml);
void aml_end_resources(struct aml *aml, size_t mark);
void aml_resource_io(struct aml *aml, u16 port, u8 port_count);
void aml_resource_irq(struct aml *aml, unsigned irq);
void aml_resource_memory32(struct aml *aml, u32 base, u32 bytes);
void aml_resource_bus(struct aml *aml, u16 first, u16 last);
void aml_resource_port_window(struct aml *aml, u16 first, u16 last);
void aml_resource_memory_window(struct aml *aml, u64 first, u64 last, bool is_64_bit);

#endif

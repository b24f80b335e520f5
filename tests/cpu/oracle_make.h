/*
 * tests/cpu/oracle_make.h - what the parts that make cases share.
 */
#ifndef CPU_ORACLE_MAKE_H
#define CPU_ORACLE_MAKE_H

#include "oracle.h"

enum { ORACLE_ENCODE_BYTES = 32 };
/* How memory operands are encoded: any form, or always [rBX + small displacement]. */
enum oracle_memory { ORACLE_ANY_MEMORY, ORACLE_POINTER_MEMORY };

u64 oracle_random(void);
bool oracle_chance(unsigned percent);
u64 oracle_value(void);

/* Encodes DESC at random; the rest of BYTES is random. Returns how many bytes were meant. */
unsigned oracle_encode(u8 bytes[ORACLE_ENCODE_BYTES], const struct insn_desc *desc,
                       unsigned code_bytes, enum oracle_memory memory);
/* oracle_excluded, with what depends on the encoding: undefined results, INT 80h. */
const char *oracle_excluded_insn(const struct insn *insn);

#endif

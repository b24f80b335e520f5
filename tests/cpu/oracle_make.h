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

/* Starts the case's own random sequence. */
void oracle_seed(u64 seed, u64 index);

/* Random registers, vector state and memory; also the parts of an XSAVE image alone. */
void oracle_make_state(struct oracle_case *c);
void oracle_make_x87(u8 *image);
void oracle_make_vectors(u8 *image);

/* 2, 4 or 8, for a descriptor with ATTR. */
unsigned oracle_code_bytes(u32 attr);
/* Where SEGMENT begins when the case does. */
u64 oracle_segment_base(const struct oracle_case *c, unsigned segment);

/* A random address for an operand of BYTES, mostly a good one; aligned when ALIGNED, mostly. */
u64 oracle_target(unsigned bytes, bool aligned);
/* Makes COUNT bytes at ADDRESS, in the data pages that can be written or on the stack, begin as
 * BYTES; one such place per case. */
void oracle_poke(struct oracle_case *c, u64 address, const void *bytes, unsigned count);

/* Appends an instruction; false when there is no room. */
bool oracle_add_insn(struct oracle_case *c, const struct insn *insn, const u8 *bytes);
/* Chooses where BYTES of code go. */
void oracle_place_code(struct oracle_case *c, unsigned bytes);
/* Gives the case's one instruction, whose memory operand is at TARGET, something to find. */
void oracle_prepare(struct oracle_case *c, const struct insn *insn, u64 target);

/* Encodes DESC at random; the rest of BYTES is random. Returns how many bytes were meant. */
unsigned oracle_encode(u8 bytes[ORACLE_ENCODE_BYTES], const struct insn_desc *desc,
                       unsigned code_bytes, enum oracle_memory memory);
/* oracle_excluded (expect.c), with what depends on the encoding: undefined results, INT 80h. */
const char *oracle_excluded_insn(const struct insn *insn);

#endif

/*
 * x86/decode_priv.h - what the generated table and the decoder share.
 */
#ifndef X86_DECODE_PRIV_H
#define X86_DECODE_PRIV_H

#include "x86/decode.h"

/* Rules beyond the lookup that a descriptor asks for (insn_desc.check). */
enum decode_check {
    CHECK_MOD_IGNORED = 1, /* ModRM.mod is not looked at: always a register (MOV CR, MOV DR) */
    CHECK_NO_VVVV = 2,     /* VEX.vvvv must be 1111b */
    CHECK_GATHER = 4,      /* destination, index and mask must differ */
    CHECK_REG_LOW = 16,    /* ModRM.reg names one of eight registers whatever REX says */
    CHECK_RM_LOW = 32,     /* ModRM.rm does */
    CHECK_IGNORE_66 = 8    /* 66 is part of the opcode and does not change the operand size */
};

/* What a lookup node looks at; its children follow it in the array. */
enum decode_node_kind {
    NODE_MODE,   /* 2: 16/32, 64 */
    NODE_PREFIX, /* 4: none, 66, F3, F2 */
    NODE_REXB,   /* 2 */
    NODE_MOD,    /* 2: memory, register */
    NODE_REG,    /* 8 */
    NODE_RM,     /* 8 */
    NODE_W,      /* 2 */
    NODE_L       /* 2 */
};

/* Entries of decode_root and children in decode_node: another node's index, or with NODE_LEAF a
 * descriptor's, or NODE_INVALID. */
enum { NODE_LEAF = 0x8000, NODE_INVALID = 0xffff };
enum { DECODE_MAPS = 7 }; /* legacy 1-byte, 0F, 0F38, 0F3A; VEX 0F, 0F38, 0F3A */
extern const u16 decode_root[DECODE_MAPS][256];
extern const u16 decode_node[];

#endif

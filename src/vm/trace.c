/*
 * vm/trace.c - the translator's blocks as a text file.
 *
 * A block's entry begins with a line of facts, then has for each guest instruction its code and
 * below it the host code made of it, then the exits and the cold code. Where Zydis is there, code
 * is disassembled; tests/ and people read the file, no program of ours does.
 *
 * Runs   trace_open and trace_close on the main thread, the tracer on vCPU threads.
 */
#include "vm/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "vm/disasm.h"
#include "x86/regs.h"

enum { PATH_BYTES = 1024, TEXT_BYTES = 128, HEX_COLUMNS = 11 };

struct trace {
    struct jit_tracer tracer;
    FILE *file;       /* owned */
    struct lock lock; /* of the file: a block's lines stay together */
    u64 first, last;
};

static void print_hex(FILE *file, const u8 *bytes, unsigned count)
{
    for (unsigned i = 0; i < HEX_COLUMNS || i < count; i++) {
        if (i < count)
            fprintf(file, "%02x ", bytes[i]);
        else
            fputs("   ", file);
    }
}

/* Host code from CODE to END, which is executed at RX. */
static void print_host(FILE *file, const u8 *code, const u8 *end, u64 rx)
{
    char text[TEXT_BYTES];

    while (code < end) {
        unsigned room = 0;
        while (code + room < end && code[room] == 0xcc) /* for a guard, or never reached */
            room++;
        if (room > 1) {
            fprintf(file, "        %12" PRIx64 "  (room of %u bytes)\n", rx, room);
            code += room;
            rx += room;
            continue;
        }
        const struct disasm_code one = {code, (size_t)(end - code), rx, 8};
        unsigned length = disasm(text, sizeof(text), &one);
        if (length == 0) {
            length = 1;
            snprintf(text, sizeof(text), "(data)");
        }
        fprintf(file, "        %12" PRIx64 "  ", rx);
        print_hex(file, code, length);
        fprintf(file, "%s\n", text);
        code += length;
        rx += length;
    }
}

static void print_flags(FILE *file, u32 live)
{
    static const struct {
        u32 flag;
        char name;
    } flags[] = {{X86_OF, 'o'}, {X86_SF, 's'}, {X86_ZF, 'z'},
                 {X86_AF, 'a'}, {X86_PF, 'p'}, {X86_CF, 'c'}};

    for (unsigned i = 0; i < ARRAY_LEN(flags); i++)
        fputc(live & flags[i].flag ? flags[i].name : '-', file);
}

static void print_insn(FILE *file, const struct trace_insn *insn)
{
    char text[TEXT_BYTES];

    const struct disasm_code one = {insn->bytes, insn->insn->length, insn->rip,
                                    insn->insn->code_bytes};
    if (disasm(text, sizeof(text), &one) == 0)
        snprintf(text, sizeof(text), "%s", insn->insn->desc->mnemonic);
    fprintf(file, "  %16" PRIx64 "  ", insn->rip);
    print_hex(file, insn->bytes, insn->insn->length);
    fprintf(file, "%-40s ; %s, live ", text, insn->how);
    print_flags(file, insn->live_flags);
    fputc('\n', file);
}

static void tell_block(void *ctx, const struct trace_block *block)
{
    struct trace *trace = ctx;
    FILE *file = trace->file;
    const u8 *hot_end = block->code + block->hot_bytes;

    lock_acquire(&trace->lock);
    fprintf(file,
            "block cpu%u %u rip %" PRIx64 " gpa %" PRIx64
            " mode %x%s, %u-bit, %u instructions, page bytes "
            "%x to %x, host %" PRIx64 " hot %u cold %u\n",
            block->cpu, block->number, block->rip, block->gpa, block->mode,
            block->relative ? " relative" : "", block->code_bytes * 8, block->insn_count,
            block->low, block->high, block->code_rx, block->hot_bytes, block->cold_bytes);
    print_host(file, block->code, block->insns[0].code, block->code_rx);
    for (unsigned i = 0; i < block->insn_count; i++) {
        const struct trace_insn *insn = &block->insns[i];
        const u8 *end = i + 1 < block->insn_count ? insn[1].code : hot_end;
        print_insn(file, insn);
        print_host(file, insn->code, end, block->code_rx + (u64)(insn->code - block->code));
    }
    for (unsigned i = 0; i < block->exit_count; i++)
        fprintf(file, "  exit to %" PRIx64 "%s\n", block->exits[i].rip,
                block->exits[i].other_page ? " (another page: guarded)" : "");
    fprintf(file, "  cold code\n");
    print_host(file, block->cold, block->cold + block->cold_bytes, block->cold_rx);
    lock_release(&trace->lock);
}

static void tell_runs(void *ctx, unsigned cpu, unsigned number, u64 rip, u64 count)
{
    struct trace *trace = ctx;

    lock_acquire(&trace->lock);
    fprintf(trace->file, "runs cpu%u %u rip %" PRIx64 " %" PRIu64 "\n", cpu, number, rip, count);
    lock_release(&trace->lock);
}

static bool wants(void *ctx, u64 rip)
{
    const struct trace *trace = ctx;

    return rip >= trace->first && rip <= trace->last;
}

/* FIRST[-LAST]; false when it is not that. */
static bool parse_range(struct trace *trace, const char *text)
{
    char *end;

    errno = 0;
    trace->first = trace->last = strtoull(text, &end, 16);
    if (end == text || errno != 0)
        return false;
    if (*end == '-') {
        text = end + 1;
        trace->last = strtoull(text, &end, 16);
        if (end == text)
            return false;
    }
    return *end == 0 && errno == 0;
}

struct trace *trace_open(const char *option, struct err *err)
{
    const char *comma = strchr(option, ',');
    size_t length = comma ? (size_t)(comma - option) : strlen(option);
    struct trace *trace = new0(struct trace);
    char path[PATH_BYTES];

    if (!trace) {
        err_set(err, -ENOMEM, "--debug-trace: no memory");
        return NULL;
    }
    trace->tracer = (struct jit_tracer){
        .wants = wants, .block = tell_block, .runs = tell_runs, .ctx = trace};
    trace->last = UINT64_MAX;
    bool is_good = length > 0 && length < sizeof(path);
    if (is_good && comma)
        is_good = strncmp(comma, ",rip=", 5) == 0 && parse_range(trace, comma + 5);
    if (!is_good) {
        err_set(err, -EINVAL, "--debug-trace '%s': give FILE[,rip=FIRST[-LAST]], hexadecimal",
                option);
        goto fail;
    }
    memcpy(path, option, length);
    path[length] = 0;
    trace->file = fopen(path, "we");
    if (!trace->file) {
        err_set(err, -errno, "--debug-trace '%s': %s", path, strerror(errno));
        goto fail;
    }
    return trace;
fail:
    alloc_free(trace);
    return NULL;
}

void trace_close(struct trace *trace)
{
    if (!trace)
        return;
    if (fclose(trace->file) != 0)
        fprintf(stderr, "atoll-vm: --debug-trace: the file is not whole: %s\r\n", strerror(errno));
    alloc_free(trace);
}

const struct jit_tracer *trace_tracer(const struct trace *trace)
{
    return &trace->tracer;
}

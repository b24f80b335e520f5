/*
 * dbt/jit/lockstep_check.c - compares a vCPU with what the interpreter noted, and tells people of a
 * difference.
 *
 * Not compared: arithmetic flags (lockstep.c), the x87's last-instruction registers, and what
 * follows from other registers.
 *
 * Runs   on the vCPU's thread, outside translated code.
 */
#include "base/bits.h"
#include "base/log.h"
#include "core/mem.h"
#include "dbt/jit/lockstep_priv.h"
#include "dbt/simd.h"

enum { IMAGE_ST = 32, IMAGE_XMM = 160, IMAGE_BV = 512, IMAGE_YMM = 576 };

void lockstep_system_of(const struct cpu *cpu, struct lockstep_system *ret_system)
{
    *ret_system = (struct lockstep_system){.kernel_gs_base = cpu->msr.kernel_gs_base,
                                           .cr0 = cpu->cr0,
                                           .cr4 = cpu->cr4,
                                           .cpl = cpu->cpl,
                                           .code_bytes = cpu->code_bytes,
                                           .stack_bytes = cpu->stack_bytes,
                                           .privilege = cpu->privilege};
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        ret_system->seg[i] = cpu->seg[i];
}

static bool system_same(const struct cpu *cpu, const struct lockstep_system *expected)
{
    struct lockstep_system now;
    lockstep_system_of(cpu, &now);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
        const struct x86_seg *a = &now.seg[i], *b = &expected->seg[i];
        if (a->base != b->base || a->limit != b->limit || a->selector != b->selector ||
            a->attr != b->attr)
            return false;
    }
    return now.kernel_gs_base == expected->kernel_gs_base && now.cr0 == expected->cr0 &&
           now.cr4 == expected->cr4 && now.cpl == expected->cpl &&
           now.code_bytes == expected->code_bytes && now.stack_bytes == expected->stack_bytes &&
           now.privilege == expected->privilege;
}

/* The byte AT of an image; XSAVE leaves out what is in its initial state. */
static u8 image_byte(const u8 *image, unsigned at)
{
    u8 in_use = image[IMAGE_BV];
    if (at < IMAGE_XMM && (at < 24 || at >= IMAGE_ST) && !(in_use & 1))
        return at == 0 ? 0x7f : at == 1 ? 3 : 0;
    if (at >= IMAGE_XMM && at < IMAGE_BV && !(in_use & 2))
        return 0;
    if (at >= IMAGE_YMM && !(in_use & 4))
        return 0;
    return image[at];
}

/* Control and status words, tags; MXCSR; ten bytes of each x87 register; XMM and YMM. */
static bool image_byte_counts(unsigned at)
{
    if (at < IMAGE_ST)
        return at < 5 || (at >= 24 && at < 28);
    if (at < IMAGE_XMM)
        return at % 16 < 10;
    return at < IMAGE_XMM + 256 || at >= IMAGE_YMM;
}

/* The first byte in which two images differ; X86_XSAVE_BYTES when in none. */
static unsigned image_difference(const u8 *a, const u8 *b)
{
    unsigned at = 0;
    while (at < X86_XSAVE_BYTES &&
           (!image_byte_counts(at) || image_byte(a, at) == image_byte(b, at)))
        at++;
    return at;
}

static unsigned vectors_difference(struct cpu *cpu, const u8 *expected)
{
    bool live = cpu->vector_live;
    simd_save(cpu);
    unsigned at = image_difference(cpu->xsave, expected);
    if (live)
        simd_load(cpu);
    return at;
}

bool lockstep_bytes_same(const u8 *a, const u8 *b, u32 bytes)
{
    u32 i = 0;
    while (i < bytes && a[i] == b[i])
        i++;
    return i == bytes;
}

/* Whether a store after number I and before COUNT covers ADDRESS. */
static bool overwritten(const struct lockstep *lockstep, unsigned i, unsigned count,
                        const u8 *address)
{
    while (++i < count) {
        const struct lockstep_access *store = &lockstep->stores[i];
        if (address >= store->host && address < store->host + store->bytes)
            return true;
    }
    return false;
}

/* The first of STEP's stores that is not in memory; NULL when all are. */
static const struct lockstep_access *store_missing(const struct lockstep *lockstep,
                                                   const struct lockstep_step *step)
{
    for (unsigned i = 0; i < step->stores; i++) {
        const struct lockstep_access *store = &lockstep->stores[i];
        const u8 *after = lockstep->after + store->at;
        if (lockstep_bytes_same(store->host, after, store->bytes))
            continue;
        for (unsigned k = 0; k < store->bytes; k++)
            if (store->host[k] != after[k] &&
                !overwritten(lockstep, i, step->stores, store->host + k))
                return store;
    }
    return NULL;
}

bool lockstep_same(struct cpu *cpu, const struct lockstep_step *step)
{
    const struct lockstep *lockstep = cpu->jit_own->lockstep;
    u64 flags = (step->rflags ^ cpu->rflags) & ~(u64)X86_ARITH_FLAGS;
    if (flags != 0)
        return false;
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        if (step->gpr[i] != cpu->gpr[i])
            return false;
    if (store_missing(lockstep, step) != NULL)
        return false;
    if (step->system && !system_same(cpu, &lockstep->systems[step->system - 1]))
        return false;
    return !step->image ||
           vectors_difference(cpu, lockstep->images[step->image - 1]) == X86_XSAVE_BYTES;
}

/* ---- telling ---- */

/* The instruction's bytes as text, where it lies in the block's page. */
static void code_text(const struct cpu *cpu, u64 rip, char *to, unsigned room)
{
    const struct jit *jit = cpu->jit;
    const struct jit_block *block = &jit->blocks[cpu->jit_own->lockstep->number];
    const struct code_page *page = &jit->pages[block->page];
    const u8 *host = mem_map(cpu->mem, page->physical_page << 12, 4096, MEM_READ);
    struct insn insn;
    unsigned at = (unsigned)(rip & 4095), used = 0;
    to[0] = 0;
    if (rip >> 12 != cpu->jit_own->lockstep->steps[0].rip >> 12 || host == NULL ||
        decode(host + at, (unsigned)min_u64(4096 - at, INSN_MAX_BYTES), cpu->code_bytes, &insn) !=
            DECODE_OK)
        return;
    for (unsigned i = 0; i < insn.length && used + 4 < room; i++) {
        static const char digits[] = "0123456789abcdef";
        to[used++] = digits[host[at + i] >> 4];
        to[used++] = digits[host[at + i] & 15];
        to[used++] = ' ';
    }
    to[used] = 0;
}

static void report_code(const struct cpu *cpu)
{
    const struct lockstep *lockstep = cpu->jit_own->lockstep;
    char text[64];
    for (unsigned i = 0; i < lockstep->step_count; i++) {
        const struct lockstep_step *step = &lockstep->steps[i];
        code_text(cpu, step->rip, text, sizeof(text));
        log_error("lockstep", "  %016llx %s%s", (unsigned long long)step->rip, text,
                  step->desc ? step->desc->mnemonic : "(not executed)");
    }
}

static void report_registers(struct cpu *cpu, const struct lockstep_step *step)
{
    const struct lockstep_step *start = &cpu->jit_own->lockstep->steps[0];
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        log_error("lockstep", "  r%-2u %016llx -> %016llx, translated %016llx%s", i,
                  (unsigned long long)start->gpr[i], (unsigned long long)step->gpr[i],
                  (unsigned long long)cpu->gpr[i], step->gpr[i] == cpu->gpr[i] ? "" : " DIFFERENT");
    log_error("lockstep", "  flags %llx -> %llx, translated %llx",
              (unsigned long long)start->rflags, (unsigned long long)step->rflags,
              (unsigned long long)cpu->rflags);
}

/* The state is in cpu->xsave already. */
static void report_image(const u8 *translated, const u8 *expected, const u8 *first)
{
    for (unsigned at = 0; at < X86_XSAVE_BYTES; at += 8) {
        unsigned i = 0;
        while (i < 8 && (!image_byte_counts(at + i) ||
                         image_byte(translated, at + i) == image_byte(expected, at + i)))
            i++;
        if (i < 8)
            log_error("lockstep", "  XSAVE image at %u: %016llx -> %016llx, translated %016llx", at,
                      (unsigned long long)load_le64(first + at),
                      (unsigned long long)load_le64(expected + at),
                      (unsigned long long)load_le64(translated + at));
    }
}

static void report_rest(struct cpu *cpu, const struct lockstep_step *step)
{
    const struct lockstep *lockstep = cpu->jit_own->lockstep;
    const struct lockstep_access *store = store_missing(lockstep, step);
    if (store)
        for (unsigned i = 0; i < store->bytes && i < 64; i++)
            if (store->host[i] != lockstep->after[store->at + i])
                log_error("lockstep", "  store %u, byte %u of %u: %02x, translated %02x DIFFERENT",
                          (unsigned)(store - lockstep->stores), i, store->bytes,
                          lockstep->after[store->at + i], store->host[i]);
    if (step->system && !system_same(cpu, &lockstep->systems[step->system - 1]))
        log_error("lockstep", "  segments or control registers are DIFFERENT");
    if (step->image) {
        report_image(cpu->xsave, lockstep->images[step->image - 1], lockstep->first_image);
    }
}

static void report_past(const struct lockstep *lockstep)
{
    u64 count = min_u64(lockstep->past_count, LOCKSTEP_PAST);
    for (u64 i = lockstep->past_count - count; i < lockstep->past_count; i++) {
        const struct lockstep_past *past = &lockstep->past[i % LOCKSTEP_PAST];
        log_error("lockstep",
                  "  before: %016llx to %016llx, flags %03x, translated %03x, undefined %03x%s",
                  (unsigned long long)past->first, (unsigned long long)past->last, past->expected,
                  past->translated, past->undefined,
                  past->expected == past->translated ? "" : " (dead ones differ)");
    }
}

void lockstep_report(struct cpu *cpu, const struct lockstep_step *step)
{
    static const char *const ends[] = {"a branch", "a fault", "what it may not do"};
    const struct lockstep *lockstep = cpu->jit_own->lockstep;
    bool live = cpu->vector_live;
    simd_save(cpu); /* log lines may use vector registers */
    log_error("lockstep", "block %u: translated code came to %llx; the interpreter ended with %s",
              lockstep->number, (unsigned long long)cpu->rip, ends[lockstep->end]);
    report_past(lockstep);
    report_code(cpu);
    if (step == NULL) {
        log_error("lockstep", "  it never came there; its last state:");
        step = &lockstep->steps[lockstep->step_count - 1];
    }
    report_registers(cpu, step);
    report_rest(cpu, step);
    if (live)
        simd_load(cpu);
}

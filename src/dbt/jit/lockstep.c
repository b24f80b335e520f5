/*
 * dbt/jit/lockstep.c - the interpreter goes ahead of translated code, and takes back what it did.
 *
 * Before a block is entered the interpreter executes its instructions, noting the state before each
 * and what each stores; then registers and vector state are put back and the translated block runs.
 * Where that leaves, or has an instruction interpreted, the state must be one that the interpreter
 * noted for the same RIP (lockstep_check.c). Blocks are not linked, so that each run is a block's;
 * a return may go on behind its call, and the interpreter follows it.
 *
 * What the interpreter stores goes to copies of pages (lockstep_page.c): a device that saw a ring's
 * new index before its time would use an entry that is not there yet.
 *
 * The interpreter stops before what cannot be done twice: ports, MMIO, time, random numbers, and
 * system instructions but for those that translated code executes itself. There translated code is
 * on its own until it next comes to C.
 *
 * Arithmetic flags. Translated code may leave wrong ones that nobody will read. So flags are not
 * compared, but the interpreter goes on with its own and translated code with its own: a wrong flag
 * that is read makes a difference elsewhere. At an interpreted instruction the flags that it reads
 * are compared. Before an instruction that reads flags which the processor leaves undefined it
 * stops. Where anything but translated code comes between, the interpreter takes over
 * translated code's flags.
 *
 * What it cannot see: a store of translated code where the interpreter stores nothing; vector state
 * in a block without vector instructions. A device that writes guest memory between the two runs is
 * told from a difference by looking whether what the interpreter has read is still there.
 *
 * Runs   on the vCPU's thread, outside translated code.
 */
#include "dbt/lockstep.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "dbt/interp.h"
#include "dbt/jit/lockstep_priv.h"
#include "dbt/simd.h"

/* What the interpreter may change, other than memory, TLBs and counters. */
enum {
    REGION_START = offsetof(struct cpu, gpr),
    REGION_BYTES = offsetof(struct cpu, exit) - REGION_START
};

int jit_lockstep(struct cpu *cpu, u32 first, u32 every)
{
    struct lockstep *lockstep = new0(struct lockstep);
    if (lockstep == NULL)
        return -ENOMEM;
    lockstep->runs = new0_array(u32, JIT_BLOCKS);
    lockstep->page_room = new0_array(u8, (LOCKSTEP_PAGES + 1) * 4096);
    if (lockstep->runs == NULL || lockstep->page_room == NULL) {
        lockstep_free(lockstep);
        return -ENOMEM;
    }
    /* As aligned as the guest's: accesses may need it, and locked ones must not cross lines. */
    u8 *bytes = (u8 *)align_up((uintptr_t)lockstep->page_room, 4096);
    for (unsigned i = 0; i < LOCKSTEP_PAGES; i++)
        lockstep->pages[i].bytes = bytes + i * 4096;
    lockstep->first = first;
    lockstep->every = every;
    cpu->jit_own->lockstep = lockstep;
    return 0;
}

void lockstep_free(struct lockstep *lockstep)
{
    if (lockstep == NULL)
        return;
    alloc_free(lockstep->runs);
    alloc_free(lockstep->page_room);
    alloc_free(lockstep);
}

/* ---- what the interpreter may execute twice ---- */

static bool is_repeatable(const struct insn_desc *desc)
{
    switch (desc->op) {
    case OP_ADD ... OP_MOV:
    case OP_MOV_FROM_SEG ... OP_STD:
    case OP_PUSH:
    case OP_POP:
    case OP_PUSHA ... OP_JMP_IND:
    case OP_CALL:
    case OP_CALL_IND:
    case OP_RET:
    case OP_MOVS ... OP_SCAS:
    case OP_CLI:
    case OP_STI:
    case OP_NOP:
    case OP_PAUSE:
    case OP_CPUID:
    case OP_MOV_FROM_CR:
    case OP_SYSCALL:
    case OP_SYSRET:
    case OP_SWAPGS ... OP_RDPID:
    case OP_CLAC:
    case OP_STAC:
    case OP_LFENCE ... OP_PREFETCH:
        return true;
    default:
        return desc->op >= OP_X87;
    }
}

/* Whether it changes what struct lockstep_system holds, or RFLAGS besides arithmetic flags. */
static bool changes_system(const struct insn_desc *desc)
{
    switch (desc->op) {
    case OP_POPF:
    case OP_CLI:
    case OP_STI:
    case OP_SYSCALL:
    case OP_SYSRET:
    case OP_SWAPGS:
    case OP_WRFSBASE:
    case OP_WRGSBASE:
    case OP_CLAC:
    case OP_STAC:
        return true;
    default:
        return false;
    }
}

/* The arithmetic flags whose values show: SYSCALL has them all in R11. */
static u32 flags_shown(const struct insn_desc *desc)
{
    return (desc->op == OP_SYSCALL ? ~0u : desc->flags_read) & X86_ARITH_FLAGS;
}

/* Whether translated code may go on in the same run after this branch was taken. */
static bool is_followed(const struct insn_desc *desc)
{
    return desc->op == OP_RET || desc->op == OP_JMP;
}

/* ---- recording ---- */

NO_RETURN void lockstep_give_up(struct cpu *cpu)
{
    cpu->jit_own->lockstep->gave_up = true;
    cpu_exit(cpu);
}

/* memcpy of a length that is not known may use vector registers, where the guest's state is. */
static void bytes_copy(u8 *to, const u8 *from, u32 bytes)
{
    for (; bytes >= 8; bytes -= 8, to += 8, from += 8)
        store_le64(to, load_le64(from));
    for (; bytes > 0; bytes--)
        *to++ = *from++;
}

/* PLACE is where the interpreter finds it. */
static void note(struct cpu *cpu, u8 *place, u32 bytes, bool is_store)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    unsigned *count = is_store ? &lockstep->store_count : &lockstep->load_count;
    if (*count == LOCKSTEP_ACCESSES || lockstep->byte_count + bytes > LOCKSTEP_BYTES)
        lockstep_give_up(cpu);
    struct lockstep_access *access = &(is_store ? lockstep->stores : lockstep->loads)[(*count)++];
    *access = (struct lockstep_access){lockstep_origin(lockstep, place), bytes,
                                       lockstep->byte_count};
    if (!is_store)
        bytes_copy(lockstep->before + access->at, place, bytes);
    lockstep->byte_count += bytes;
}

/* Called before each data access. One that faults does so here. */
static void watch(struct cpu *cpu, gva_t gva, size_t bytes, enum cpu_access access)
{
    cpu->watch = NULL; /* mmu_host must not come here */
    while (bytes > 0) {
        u32 part = (u32)min_u64(bytes, 4096 - gva % 4096);
        u8 *host = mmu_host(cpu, gva, part, access);
        if (host == NULL) /* a device, ROM, or decoded code that is overwritten */
            lockstep_give_up(cpu);
        note(cpu, host, part, access == ACCESS_WRITE);
        gva += part;
        if (cpu->code_bytes != 8)
            gva = (u32)gva;
        bytes -= part;
    }
    cpu->watch = watch;
}

static struct lockstep_step *step_add(struct cpu *cpu)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    struct lockstep_step *step = &lockstep->steps[lockstep->step_count++];
    __builtin_memcpy(step->gpr, cpu->gpr, sizeof(step->gpr));
    step->rip = cpu->rip;
    step->rflags = cpu->rflags;
    step->undefined = lockstep->undefined;
    step->desc = NULL;
    step->stores = (u16)lockstep->store_count;
    step->image = (u8)lockstep->image_count;
    step->system = (u8)lockstep->system_count;
    return step;
}

/* The vector state as it is before the first instruction that may change it. */
static void vectors_begin(struct cpu *cpu)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    if (lockstep->has_first_image)
        return;
    simd_save(cpu);
    __builtin_memcpy(lockstep->first_image, cpu->xsave, X86_XSAVE_BYTES);
    lockstep->has_first_image = true;
}

/* Keeps what an instruction of DESC has made, besides registers and flags. */
static void keep_results(struct cpu *cpu, const struct insn_desc *desc, unsigned first_store)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    for (unsigned i = first_store; i < lockstep->store_count; i++) {
        const struct lockstep_access *store = &lockstep->stores[i];
        bytes_copy(lockstep->after + store->at, lockstep_made(lockstep, store->host), store->bytes);
    }
    if (desc->op >= OP_X87) {
        simd_save(cpu);
        __builtin_memcpy(lockstep->images[lockstep->image_count++], cpu->xsave, X86_XSAVE_BYTES);
    } else if (changes_system(desc)) {
        lockstep_system_of(cpu, &lockstep->systems[lockstep->system_count++]);
    }
}

/* One instruction; false when the next one is not to be executed. */
static bool run_step(struct cpu *cpu)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    struct lockstep_step *step = step_add(cpu);
    unsigned first_store = lockstep->store_count;
    bool full = lockstep->step_count == LOCKSTEP_STEPS - 1 ||
                lockstep->image_count == LOCKSTEP_IMAGES ||
                lockstep->system_count == LOCKSTEP_SYSTEMS;
    lockstep->end = END_STOP;
    cpu->tlb_data = cpu->tlb.none; /* so that every access is watched */
    cpu->watch = watch;
    const struct insn_desc *desc = step->desc = interp_next(cpu);
    if (full || !is_repeatable(desc) || (flags_shown(desc) & lockstep->undefined))
        return false;
    if (desc->op >= OP_X87)
        vectors_begin(cpu);
    u64 rip = cpu->rip;
    bool plain = interp_single(cpu, cpu->counters.insns_ahead);
    keep_results(cpu, desc, first_store);
    lockstep->undefined = (lockstep->undefined & ~desc->flags_written) | desc->flags_undefined;
    if (cpu->rip == rip) /* repeated, and not done */
        return false;
    cpu->interrupt_shadow = false;
    cpu->special &= ~(u32)SPECIAL_STEP;
    lockstep->end = END_BRANCH;
    return cpu->special == 0 && (plain || desc->op == OP_STI || is_followed(desc));
}

static __attribute__((noinline)) bool guarded(struct cpu *cpu)
{
    if (__builtin_setjmp(cpu->jump) != 0)
        return false;
    while (run_step(cpu)) {
    }
    return true;
}

/* Until a fault, an exit, or whatever run_step stops at. */
static void run_ahead(struct cpu *cpu)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    void *jump[ARRAY_LEN(cpu->jump)];
    __builtin_memcpy(jump, cpu->jump, sizeof(jump));
    if (guarded(cpu)) {
        if (lockstep->end == END_BRANCH)
            step_add(cpu);
    } else {
        bool fault = cpu->left == LEFT_FAULT && !lockstep->gave_up;
        lockstep->end = fault ? END_FAULT : END_STOP;
        if (cpu->exclusive)
            cpu_group_resume(cpu);
        cpu->exclusive = false;
    }
    __builtin_memcpy(cpu->jump, jump, sizeof(jump));
}

static void take_back(struct cpu *cpu, const u8 *region, bool vector_live)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    if (lockstep->has_first_image)
        simd_save(cpu);
    bool live_now = cpu->vector_live;
    __builtin_memcpy((u8 *)cpu + REGION_START, region, REGION_BYTES);
    cpu->vector_live = live_now;
    if (lockstep->has_first_image)
        __builtin_memcpy(cpu->xsave, lockstep->first_image, X86_XSAVE_BYTES);
    if (vector_live && !live_now)
        simd_load(cpu);
    cpu->watch = NULL;
    cpu->place = NULL;
    cpu->replay.done = cpu->replay.next = 0;
    cpu->replay.waiting = false;
}

static void go_ahead(struct cpu *cpu)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    u8 region[REGION_BYTES];
    bool vector_live = cpu->vector_live;
    __builtin_memcpy(region, (u8 *)cpu + REGION_START, REGION_BYTES);
    lockstep->step_count = lockstep->store_count = lockstep->load_count = 0;
    lockstep->image_count = lockstep->system_count = lockstep->byte_count = 0;
    lockstep->page_count = 0;
    lockstep->gave_up = lockstep->has_first_image = false;
    if (!lockstep->carries)
        lockstep->undefined = 0;
    else
        cpu->rflags = (cpu->rflags & ~(u64)X86_ARITH_FLAGS) | lockstep->flags;
    cpu->place = lockstep_place;
    run_ahead(cpu);
    take_back(cpu, region, vector_live);
    lockstep->active = true;
    lockstep->counters.segments++;
}

/* ---- the doors ---- */

void lockstep_enter(struct cpu *cpu, u32 number)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    u32 runs = lockstep->runs[number]++;
    lockstep->number = number;
    lockstep->active = lockstep->may_stay = false;
    lockstep->sampled = runs < lockstep->first || (lockstep->every && runs % lockstep->every == 0);
    if (lockstep->sampled)
        go_ahead(cpu);
    else
        lockstep->carries = false;
}

void lockstep_go_on(struct cpu *cpu, u32 number)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    lockstep->carries = false;
    lockstep->number = number;
    lockstep->may_stay = true;
    if (lockstep->sampled)
        go_ahead(cpu);
}

void lockstep_drop(struct cpu *cpu)
{
    cpu->jit_own->lockstep->active = cpu->jit_own->lockstep->carries = false;
}

/* The step that translated code has come to: one of the same RIP, and where there are several one
 * that is the same in all, if any is. The first, at which nothing has been executed, can be met
 * only there or where nothing follows. */
static const struct lockstep_step *step_find(struct cpu *cpu, bool at_insn)
{
    const struct lockstep *lockstep = cpu->jit_own->lockstep;
    const struct lockstep_step *found = NULL;
    for (unsigned i = at_insn || lockstep->may_stay ? 0 : 1; i < lockstep->step_count; i++) {
        const struct lockstep_step *step = &lockstep->steps[i];
        if (step->rip != cpu->rip)
            continue;
        if (lockstep_same(cpu, step))
            return step;
        if (found == NULL)
            found = step;
    }
    return found;
}

/* Whether a load would find something else now where no store of the block has been. */
static bool is_disturbed(const struct lockstep *lockstep)
{
    for (unsigned i = 0; i < lockstep->load_count; i++) {
        const struct lockstep_access *load = &lockstep->loads[i];
        bool stored = false;
        for (unsigned k = 0; k < lockstep->store_count; k++) {
            const struct lockstep_access *store = &lockstep->stores[k];
            stored |= load->host < store->host + store->bytes &&
                      store->host < load->host + load->bytes;
        }
        if (!stored && !lockstep_bytes_same(load->host, lockstep->before + load->at, load->bytes))
            return true;
    }
    return false;
}

void lockstep_meet(struct cpu *cpu, bool at_insn)
{
    struct lockstep *lockstep = cpu->jit_own->lockstep;
    if (!lockstep->active)
        return;
    const struct lockstep_step *step = step_find(cpu, at_insn);
    lockstep->active = lockstep->carries = false;
    bool string = step && step->desc && step->desc->op >= OP_MOVS && step->desc->op <= OP_SCAS;
    bool same = step && lockstep_same(cpu, step);
    if (same && at_insn && step->desc)
        same = ((step->rflags ^ cpu->rflags) & flags_shown(step->desc) & ~step->undefined) == 0;
    if (!same && (step ? string : lockstep->end == END_STOP)) {
        lockstep->counters.unchecked++; /* beyond what the interpreter could do, or in its middle */
        return;
    }
    if (!same && is_disturbed(lockstep)) {
        lockstep->counters.disturbed++;
        return;
    }
    if (!same) {
        lockstep_report(cpu, step);
        cpu_fail(cpu, "translated code and the interpreter differ; the lines above say where");
    }
    lockstep->counters.insns += (unsigned)(step - lockstep->steps);
    lockstep->counters.dead_flags += ((step->rflags ^ cpu->rflags) & X86_ARITH_FLAGS) != 0;
    lockstep->past[lockstep->past_count++ % LOCKSTEP_PAST] = (struct lockstep_past){
        .first = lockstep->steps[0].rip,
        .last = (step == lockstep->steps ? step : step - 1)->rip,
        .expected = step->rflags & X86_ARITH_FLAGS,
        .translated = cpu->rflags & X86_ARITH_FLAGS,
        .undefined = step->undefined};
    lockstep->flags = step->rflags & X86_ARITH_FLAGS;
    lockstep->undefined = step->undefined;
    lockstep->carries = !at_insn;
}

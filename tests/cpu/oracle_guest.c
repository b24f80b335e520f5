/*
 * tests/cpu/oracle_guest.c - runs cases in the interpreter: a guest in long mode whose user half
 * looks like the child process, and whose kernel is a page of HLTs that exceptions lead to.
 *
 * Guest-physical layout, in pages: 1 PML4, 2-15 lower tables, 16 GDT, 17 IDT, 18 TSS, 19 kernel
 * stack, 20 handlers, 21 LDT, 32 code, 33 data, 36 stack.
 */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/err.h"
#include "core/mem.h"
#include "dbt/cpu.h"
#include "dbt/jit.h"
#include "host/cpu.h"
#include "vcpu/dbt/translator.h"
#include "vcpu/dbt/trap.h"
#include "x86/cpuid.h"

enum { PAGE_PML4 = 1, PAGE_TABLES = 2, PAGE_GDT = 16, PAGE_IDT, PAGE_TSS, PAGE_KERNEL_STACK };
enum {
    PAGE_HANDLERS = 20,
    PAGE_LDT = 21,
    PAGE_CODE = 32,
    PAGE_DATA = 33,
    PAGE_STACK = 36,
    PAGE_COUNT = 64
};
enum { PTE_PRESENT = 1, PTE_WRITE = 2, PTE_USER = 4, PTE_SEEN = 0x60 }; /* accessed and dirty set */
#define PTE_NX BIT(63)
#define KERNEL_GVA 0xffff800000000000ull
enum { CPU_NUMBER_SELECTOR = 0x78 };
enum { HANDLER_BYTES = 16, GDT_BYTES = 128, TSS_BYTES = 104 };

static struct mem mem;
static struct cpu_group *group;
static struct cpu *cpu;
static struct cpuid_model model;
static u8 *ram;
static unsigned tables_used;
static struct x86_state base_state;
static struct translator translator;
struct oracle_engine oracle_engine;

static u8 *page(unsigned number)
{
    return ram + number * ORACLE_PAGE;
}

/* Makes GVA reach page NUMBER with PTE bits FLAGS. */
static void map_page(u64 gva, unsigned number, u64 flags)
{
    unsigned table = PAGE_PML4;

    for (int shift = 39; shift > 12; shift -= 9) {
        u8 *entry = page(table) + (gva >> shift & 511) * 8;
        if (load_le64(entry) == 0)
            store_le64(entry, (PAGE_TABLES + (u64)tables_used++) << 12 | PTE_PRESENT | PTE_WRITE |
                                  PTE_USER | PTE_SEEN);
        table = (unsigned)(load_le64(entry) >> 12);
    }
    store_le64(page(table) + (gva >> 12 & 511) * 8,
               (u64)number << 12 | PTE_PRESENT | PTE_SEEN | flags);
}

static void map_all(void)
{
    for (unsigned i = PAGE_GDT; i <= PAGE_LDT; i++)
        map_page(KERNEL_GVA + i * ORACLE_PAGE, i, PTE_WRITE);
    map_page(ORACLE_CODE, PAGE_CODE, PTE_WRITE | PTE_USER);
    for (unsigned i = 0; i < ORACLE_DATA_PAGES; i++)
        map_page(ORACLE_DATA + i * ORACLE_PAGE, PAGE_DATA + i,
                 PTE_USER | PTE_NX | (i < 2 ? PTE_WRITE : 0));
    for (unsigned i = 0; i < ORACLE_STACK_PAGES; i++)
        map_page(ORACLE_STACK + i * ORACLE_PAGE, PAGE_STACK + i, PTE_USER | PTE_NX | PTE_WRITE);
}

/* The descriptor whose limit is the number of the CPU, for programs that ask with LSL; 0 where the
 * host has none. oracle.c keeps us on one CPU. */
static u64 cpu_number_descriptor(void)
{
    u32 rights = 0, limit = 0;
    u16 selector = CPU_NUMBER_SELECTOR | 3;
    __asm__("lar %1, %0" : "+r"(rights) : "r"((u32)selector) : "cc");
    __asm__("lsl %1, %0" : "+r"(limit) : "r"((u32)selector) : "cc");
    return (limit & 0xffff) | (u64)(limit >> 16 & 15) << 48 | (u64)(rights & 0xf0ff00) << 32;
}

/* Linux's GDT for a 64-bit process: kernel code and data, user code of 32 bits, data, code. */
static void make_tables(void)
{
    static const u64 gdt[] = {0,
                              0x00cf9b000000ffff,
                              0x00af9b000000ffff,
                              0x00cf93000000ffff,
                              0x00cffb000000ffff,
                              0x00cff3000000ffff,
                              0x00affb000000ffff};
    u64 tss = KERNEL_GVA + PAGE_TSS * ORACLE_PAGE;

    memcpy(page(PAGE_GDT), gdt, sizeof(gdt));
    store_le64(page(PAGE_GDT) + CPU_NUMBER_SELECTOR, cpu_number_descriptor());
    store_le64(page(PAGE_GDT) + 0x40,
               (TSS_BYTES - 1) | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
    store_le64(page(PAGE_GDT) + 0x48, tss >> 32);
    for (unsigned i = 0; i < ORACLE_LDT_COUNT; i++) {
        const struct oracle_ldt_entry *e = &oracle_ldt[i]; /* AVL is set, as Linux does */
        store_le64(page(PAGE_LDT) + i * 8, (e->limit & 0xffff) | (u64)(e->base & 0xffffff) << 16 |
                                               (u64)e->access << 40 | BIT(52) |
                                               (u64)(e->base >> 24) << 56);
    }
    store_le64(page(PAGE_TSS) + 4, KERNEL_GVA + (PAGE_KERNEL_STACK + 1) * ORACLE_PAGE);
    store_le16(page(PAGE_TSS) + 102, TSS_BYTES); /* no I/O bitmap */
    for (unsigned i = 0; i < 256; i++) {
        u64 handler = KERNEL_GVA + PAGE_HANDLERS * ORACLE_PAGE + i * HANDLER_BYTES;
        u64 dpl = i == 3 || i == 4 ? 3 : 0;
        u8 *gate = page(PAGE_IDT) + i * 16;
        store_le64(gate, (handler & 0xffff) | 0x10 << 16 | (0x8e00 | dpl << 13) << 32 |
                             (handler >> 16 & 0xffff) << 48);
        store_le64(gate + 8, handler >> 32);
    }
    memset(page(PAGE_HANDLERS), 0xf4, ORACLE_PAGE);
}

static struct x86_seg segment(u16 selector, u16 attr)
{
    return (struct x86_seg){.selector = selector, .limit = 0xffffffff, .attr = attr};
}

static void make_base_state(void)
{
    struct x86_state *s = &base_state;

    x86_state_reset(s, true);
    s->cr0 = X86_CR0_PG | X86_CR0_AM | X86_CR0_WP | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP |
             X86_CR0_PE;
    s->cr3 = PAGE_PML4 * ORACLE_PAGE;
    s->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE |
             X86_CR4_UMIP | X86_CR4_FSGSBASE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_DE;
    s->xcr0 = 7;
    s->msr.efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    s->gdtr = (struct x86_table){KERNEL_GVA + PAGE_GDT * ORACLE_PAGE, GDT_BYTES - 1};
    s->idtr = (struct x86_table){KERNEL_GVA + PAGE_IDT * ORACLE_PAGE, ORACLE_PAGE - 1};
    s->tr = (struct x86_seg){.base = KERNEL_GVA + PAGE_TSS * ORACLE_PAGE,
                             .limit = TSS_BYTES - 1,
                             .selector = 0x40,
                             .attr = 0x8b};
    s->ldtr = (struct x86_seg){.base = KERNEL_GVA + PAGE_LDT * ORACLE_PAGE,
                               .limit = ORACLE_LDT_COUNT * 8 - 1,
                               .selector = 0x50,
                               .attr = 0x82};
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        s->seg[i] = segment(ORACLE_DS, 0xc0f3);
    s->seg[X86_FS] = s->seg[X86_GS] = (struct x86_seg){.attr = X86_SEG_UNUSABLE};
}

/* Code memory for the translator: small, so that it is also full at times. */
enum { TRANSLATED_BYTES = 4 << 20 };

bool oracle_guest_start(const struct oracle_engine *engine)
{
    static struct cpuid_entry host[CPUID_HOST_MAX];
    struct cpuid_config config = {.host = host, .system_emulated = true, .cpu_count = 1};
    struct err err = {0};

    config.host_count = cpuid_collect(cpu_cpuid, host, CPUID_HOST_MAX);
    cpuid_model_init(&model, &config);
    ram = mmap(NULL, PAGE_COUNT * ORACLE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
               -1, 0);
    group = calloc(1, sizeof(*group));
    cpu = aligned_alloc(64, (sizeof(*cpu) + 63) & ~63ull);
    if (ram == MAP_FAILED || group == NULL || cpu == NULL)
        return false;
    memset(cpu, 0, sizeof(*cpu));
    mem_init(&mem);
    if (mem_add(&mem, 0, PAGE_COUNT * ORACLE_PAGE, ram, false) != 0)
        return false;
    map_all();
    make_tables();
    make_base_state();
    memset(page(PAGE_CODE), 0xcc, ORACLE_PAGE);
    memcpy(page(PAGE_DATA + 2), oracle_image[0] + 2 * ORACLE_PAGE, ORACLE_PAGE);
    cpu_group_init(group, &mem, &model);
    mem.code_written = cpu_group_code_written;
    mem.code_written_ctx = group;
    if (trap_install(&err) != 0 || cpu_init(cpu, group, 0) != 0 ||
        trap_thread_begin(cpu, &err) != 0) {
        fprintf(stderr, "oracle: the interpreter does not start: %s\n", err.text);
        return false;
    }
    oracle_engine = *engine;
    if (!engine->translate)
        return true;
    if (translator_init(&translator, cpu, TRANSLATED_BYTES) != 0)
        return false;
    jit_exact_flags(cpu, engine->exact);
    return true;
}

void oracle_guest_stop(void)
{
    if (oracle_engine.translate)
        translator_fini(&translator, cpu);
    trap_thread_end();
    cpu_fini(cpu);
    mem_fini(&mem);
    free(cpu);
    free(group);
}

static void load_memory(const struct oracle_case *c)
{
    static u8 int3[ORACLE_PAGE];
    static unsigned last_at, last_count;

    if (int3[0] == 0)
        memset(int3, 0xcc, sizeof(int3));
    memcpy(page(PAGE_DATA), oracle_image[c->image], 2 * ORACLE_PAGE);
    memcpy(page(PAGE_STACK), oracle_image[c->image] + ORACLE_DATA_BYTES, ORACLE_STACK_BYTES);
    if (c->poke_at >= ORACLE_DATA_BYTES)
        memcpy(page(PAGE_STACK) + (c->poke_at - ORACLE_DATA_BYTES), c->poke, c->poke_count);
    else
        memcpy(page(PAGE_DATA) + c->poke_at, c->poke, c->poke_count);
    if (mem_write(&mem, PAGE_CODE * ORACLE_PAGE + last_at, int3, last_count) != 0)
        abort();
    /* The case before may have written there. */
    if (memcmp(page(PAGE_CODE), int3, ORACLE_PAGE) != 0 &&
        mem_write(&mem, PAGE_CODE * ORACLE_PAGE, int3, ORACLE_PAGE) != 0)
        abort();
    if (mem_write(&mem, PAGE_CODE * ORACLE_PAGE + c->code_at, c->code, c->code_count) != 0)
        abort();
    last_at = c->code_at;
    last_count = c->code_count;
}

static void load_state(const struct oracle_case *c, struct x86_state *s)
{
    *s = base_state;
    memcpy(s->gpr, c->before.gpr, sizeof(s->gpr));
    s->rip = c->before.rip;
    s->rflags = c->before.rflags;
    s->seg[X86_FS].base = c->before.fs_base;
    s->seg[X86_GS].base = c->before.gs_base;
    if (c->code_bytes == 2) {
        for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
            const struct oracle_ldt_entry *e = &oracle_ldt[c->before.selector[i] >> 3];
            s->seg[i] = (struct x86_seg){.base = e->base,
                                         .limit = e->limit,
                                         .selector = c->before.selector[i],
                                         .attr = e->access | X86_SEG_AVL};
        }
    } else {
        s->seg[X86_CS] = c->code_bytes == 8 ? segment(ORACLE_CS64, 0xa0fb)
                                            : segment(ORACLE_CS32, 0xc0fb);
    }
    memcpy(s->xsave, c->before.xsave, sizeof(s->xsave));
}

/* Reads what the exception left on the kernel's stack. */
static bool save_outcome(const struct x86_state *s, struct oracle_outcome *o)
{
    u64 handler = s->rip - 1 - (KERNEL_GVA + PAGE_HANDLERS * ORACLE_PAGE);
    u64 stack = s->gpr[X86_RSP] - (KERNEL_GVA + PAGE_KERNEL_STACK * ORACLE_PAGE);

    if (handler >= ORACLE_PAGE || stack > ORACLE_PAGE - 40)
        return false;
    const u8 *frame = page(PAGE_KERNEL_STACK) + stack;
    o->vector = (u8)(handler / HANDLER_BYTES);
    o->error = 0;
    if (stack == ORACLE_PAGE - 48) {
        o->error = load_le32(frame);
        frame += 8;
    }
    memcpy(o->after.gpr, s->gpr, sizeof(o->after.gpr));
    o->after.rip = load_le64(frame);
    o->after.rflags = load_le64(frame + 16);
    o->after.gpr[X86_RSP] = load_le64(frame + 24);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        o->after.selector[i] = s->seg[i].selector;
    o->after.selector[X86_CS] = (u16)load_le64(frame + 8);
    o->after.selector[X86_SS] = (u16)load_le64(frame + 32);
    o->after.fs_base = s->seg[X86_FS].base;
    o->after.gs_base = s->seg[X86_GS].base;
    o->cr2 = s->cr2;
    memcpy(o->after.xsave, s->xsave, sizeof(o->after.xsave));
    memcpy(o->memory, page(PAGE_DATA), ORACLE_DATA_BYTES);
    memcpy(o->memory + ORACLE_DATA_BYTES, page(PAGE_STACK), ORACLE_STACK_BYTES);
    return true;
}

/* Sets what differs between cases. The rest is as cpu_set_state made it for an earlier one, and so
 * is what is cached of the guest's page tables, which takes most of a case's time to make anew. */
static void set_quickly(const struct x86_state *s)
{
    memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
    memcpy(cpu->seg, s->seg, sizeof(cpu->seg));
    memcpy(cpu->xsave, s->xsave, sizeof(cpu->xsave));
    cpu->rflags = s->rflags | X86_FLAG_FIXED;
    cpu->rip = s->rip;
    cpu->cr2 = s->cr2;
    cpu->event = s->event;
    cpu->activity = s->activity;
    cpu->interrupt_shadow = false;
    cpu->debug_pending = 0;
    cpu->step_skip = false;
    cpu->vector_live = false;
}

static bool set_state(const struct x86_state *s)
{
    enum { WHOLE_ONES = 8 };
    static unsigned turn;

    if (turn++ % WHOLE_ONES == 0)
        return cpu_set_state(cpu, s) == 0;
    set_quickly(s);
    return true;
}

bool oracle_guest_run(const struct oracle_case *c, struct oracle_outcome *ret_outcome)
{
    static struct x86_state state;

    load_memory(c);
    load_state(c, &state);
    if (!set_state(&state))
        return false;
    cpu->exit = (struct vm_exit){0};
    /* Both forms of blocks, in turn. */
    static unsigned turn;
    if (oracle_engine.translate)
        jit_heat(cpu, turn++ / 16 % 2);
    cpu_run(cpu);
    if (cpu->exit.kind != EXIT_HLT)
        return false;
    cpu_get_state(cpu, &state);
    return save_outcome(&state, ret_outcome);
}

/*
 * tests/fuzz/cpu_fuzz.c - fuzzes the interpreter: hostile code, registers, segments and page
 * tables.
 *
 * The input's first bytes choose the mode and the registers, the rest is code (and everything the
 * code makes of memory). Guest RAM lies between pages that fault, so an access outside it ends the
 * run; an instruction that the interpreter does not know, or a state that it loads but would not
 * save, is a finding as well.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "core/mem.h"
#include "dbt/cpu.h"
#include "fuzz.h"
#include "host/cpu.h"
#include "vcpu/dbt/trap.h"
#include "x86/cpuid.h"

enum { RAM_BYTES = 512 << 10, GUARD_BYTES = 1 << 20, STEPS = 160 };
enum {
    CODE = 0x10000,
    DATA = 0x20000,
    STACK = 0x30000,
    TABLES = 0x40000,
    IDT = 0x50000,
    GDT = 0x51000
};
enum { HEAD_BYTES = 24 };

struct guest {
    struct mem mem;
    struct cpuid_model cpuid;
    struct cpu_group group;
    struct cpu cpu;
    struct x86_state reset;
    u8 *ram;
};

static struct guest *guest_make(void)
{
    static struct cpuid_entry host[CPUID_HOST_MAX];
    struct guest *guest = aligned_alloc(64, sizeof(*guest));
    assert(guest);
    memset(guest, 0, sizeof(*guest));
    u8 *area = mmap(NULL, RAM_BYTES + 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
    assert(area != MAP_FAILED);
    guest->ram = area + GUARD_BYTES;
    assert(mprotect(guest->ram, RAM_BYTES, PROT_READ | PROT_WRITE) == 0);
    mem_init(&guest->mem);
    assert(mem_add(&guest->mem, 0, RAM_BYTES, guest->ram, false) == 0);
    struct cpuid_config config = {.host = host, .system_emulated = true, .cpu_count = 1};
    config.host_count = cpuid_collect(cpu_cpuid, host, CPUID_HOST_MAX);
    cpuid_model_init(&guest->cpuid, &config);
    cpu_group_init(&guest->group, &guest->mem, &guest->cpuid);
    guest->mem.code_written = cpu_group_code_written;
    guest->mem.code_written_ctx = &guest->group;
    assert(trap_install(NULL) == 0);
    assert(cpu_init(&guest->cpu, &guest->group, 0) == 0);
    assert(trap_thread_begin(&guest->cpu, NULL) == 0);
    cpu_get_state(&guest->cpu, &guest->reset);
    return guest;
}

static void put(struct guest *guest, gpa_t gpa, u64 value)
{
    memcpy(guest->ram + gpa, &value, sizeof(value));
}

/* Tables for long mode with RIGHTS, an IDT whose handlers are the code itself, flat segments. */
static void tables_make(struct guest *guest, u64 rights)
{
    memset(guest->ram, 0, RAM_BYTES);
    for (unsigned level = 1; level < 4; level++)
        put(guest, TABLES + level * 0x1000, (TABLES + (level - 1) * 0x1000) | 7);
    for (u64 page = 0; page < 512; page++)
        put(guest, TABLES + page * 8, page << 12 | (page % 7 == 3 ? rights : 7));
    for (u64 vector = 0; vector < 256; vector++) {
        put(guest, IDT + vector * 16, (CODE + vector) | 8 << 16 | 0xee00ull << 32);
        put(guest, IDT + vector * 16 + 8, 0);
    }
    put(guest, GDT + 8, 0x00af9b000000ffffull);
    put(guest, GDT + 16, 0x00cf93000000ffffull);
    put(guest, GDT + 24, 0x00cffb000000ffffull);
    put(guest, GDT + 32, 0x00cff3000000ffffull);
    put(guest, GDT + 40, 0x000089000000ffffull | (u64)DATA << 16);
    put(guest, GDT + 48, 0);
}

static u64 register_make(u8 choice, unsigned i)
{
    switch (choice % 8) {
    case 0:
        return choice / 8;
    case 1:
        return ~(u64)choice;
    case 2:
        return DATA + choice * 8u + i;
    case 3:
        return DATA + 0x1000 - choice / 8;
    case 4:
        return 0x0000800000000000ull - choice / 8;
    case 5:
        return RAM_BYTES - choice / 8;
    case 6:
        return CODE + choice;
    default:
        return (u64)choice << (i * 3);
    }
}

static void state_make(struct guest *guest, struct x86_state *state, const u8 *head)
{
    *state = guest->reset;
    unsigned mode = head[0] % 6;
    bool user = mode == 2 || mode == 4;
    u16 data = user ? 0xc0f3 : 0xc093;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->seg[i] = (struct x86_seg){0, 0xffffffff, (u16)(user ? 0x23 : 0x10), data};
    state->seg[X86_CS] = (struct x86_seg){0, 0xffffffff, (u16)(user ? 0x1b : 8),
                                          (u16)(user ? 0xc0fb : 0xc09b)};
    state->tr = (struct x86_seg){DATA, 0xffff, 40, 0x8b};
    state->gdtr = (struct x86_table){GDT, 55};
    state->idtr = (struct x86_table){IDT, 0xfff};
    state->cr0 = X86_CR0_PE | X86_CR0_ET | (head[1] & 1 ? X86_CR0_WP : 0);
    state->rflags = X86_FLAG_FIXED |
                    ((u64)head[2] << 4 & (X86_DF | X86_AF | X86_ZF | X86_SF | X86_OF));
    state->rflags |= head[1] & 2 ? X86_TF : 0;
    state->rflags |= head[1] & 4 ? X86_AC : 0;
    if (mode == 0) { /* real */
        state->cr0 = X86_CR0_ET;
        for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
            state->seg[i] = (struct x86_seg){(u64)head[3] << 8, 0xffff, (u16)(head[3] << 4), 0x93};
        state->seg[X86_CS] = (struct x86_seg){CODE, 0xffff, CODE >> 4, 0x9b};
    } else if (mode == 1 && head[1] & 8) { /* small segments */
        state->seg[X86_DS].limit = head[3] * 16u;
        state->seg[X86_ES].attr = head[4] & 1 ? 0xc097 : 0xc091; /* expand-down, read-only */
        state->seg[X86_SS].attr = head[4] & 2 ? 0x8093 : 0xc093;
    } else if (mode >= 3) {
        state->cr0 |= X86_CR0_PG | X86_CR0_NE | X86_CR0_MP;
        state->cr3 = TABLES + 0x3000;
        state->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
        state->msr.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
        if (mode != 5) /* 5 is compatibility mode */
            state->seg[X86_CS].attr = (u16)((state->seg[X86_CS].attr & ~X86_SEG_BIG) |
                                            X86_SEG_LONG);
    }
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        state->gpr[i] = register_make(head[8 + i], i);
    state->gpr[X86_RSP] = head[5] & 1 ? STACK : register_make(head[5], 4);
    state->rip = mode == 0 ? 0 : CODE;
    state->activity = X86_ACTIVE;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t bytes)
{
    static struct guest *guest;
    if (guest == NULL)
        guest = guest_make();
    if (bytes <= HEAD_BYTES)
        return 0;
    size_t code_bytes = bytes - HEAD_BYTES < 0x4000 ? bytes - HEAD_BYTES : 0x4000;
    tables_make(guest, data[6] & 7);
    memcpy(guest->ram + CODE, data + HEAD_BYTES, code_bytes);
    struct x86_state state;
    state_make(guest, &state, data);
    if (cpu_set_state(&guest->cpu, &state) != 0)
        return 0;
    struct cpu *cpu = &guest->cpu;
    for (unsigned i = 0; i < STEPS; i++) {
        cpu_step(cpu);
        assert(cpu->exit.kind != EXIT_FAILED);
        if (cpu->exit.kind == EXIT_SHUTDOWN)
            break;
        cpu->activity = X86_ACTIVE;
        cpu->exit.value = i * 0x9e3779b97f4a7c15ull;
        cpu->exit.msr_fault = i % 5 == 0;
    }
    cpu_get_state(cpu, &state);
    cpu->replay = (struct cpu_replay){0};
    cpu->special = 0;
    return 0;
}

/* Instructions of every kind, for the driver to cut and mix. */
static const u8 samples[] = {
    0x48, 0x8b, 0x44, 0x8b, 0x10, 0xf3, 0x48, 0xa5, 0x66, 0x0f, 0x6f, 0x06, 0xc5, 0xfd, 0x6f, 0x07,
    0xf0, 0x48, 0x0f, 0xb1, 0x0e, 0x0f, 0xc7, 0x0e, 0x48, 0x0f, 0xae, 0x26, 0x48, 0x0f, 0xae, 0x2e,
    0xc8, 0x10, 0x00, 0x03, 0xc9, 0x9c, 0x9d, 0x60, 0x61, 0x9a, 0x00, 0x00, 0x01, 0x00, 0x08, 0x00,
    0xcd, 0x21, 0xcf, 0x48, 0xcf, 0xcb, 0xca, 0x08, 0x00, 0x0f, 0x01, 0x16, 0x0f, 0x01, 0x1e, 0x0f,
    0x20, 0xc0, 0x0f, 0x22, 0xc0, 0x0f, 0x22, 0xd8, 0x0f, 0x22, 0xe0, 0x0f, 0x32, 0x0f, 0x30, 0x0f,
    0x00, 0xd8, 0x8e, 0xd8, 0x8e, 0xd0, 0x0f, 0x01, 0x3e, 0x66, 0x0f, 0x38, 0x82, 0x06, 0x0f, 0x05,
    0x0f, 0x34, 0xec, 0xef, 0x6c, 0xf3, 0x6e, 0xd9, 0x30, 0xdd, 0x36, 0xdd, 0x26, 0xd8, 0xf1, 0xde,
    0xf9, 0xf7, 0xf1, 0xf6, 0xf9, 0x0f, 0xab, 0x06, 0x0f, 0xba, 0x2e, 0xff, 0xc4, 0xe2, 0x7d, 0x90,
    0x04, 0x88, 0xc4, 0xe2, 0x7d, 0x8e, 0x06, 0x0f, 0x23, 0xf8, 0x0f, 0x23, 0xc0, 0xff, 0x2e, 0xff,
    0x1e, 0x74, 0xfe, 0xe2, 0xfc, 0xeb, 0x00, 0xc6, 0x05, 0x00, 0x00, 0x00, 0x00, 0x90, 0xf4, 0xfb,
};

size_t fuzz_seed(unsigned index, u8 to[FUZZ_INPUT_MAX_BYTES])
{
    if (index >= 12)
        return 0;
    memset(to, 0, HEAD_BYTES);
    to[0] = (u8)index;
    to[1] = (u8)(index * 5);
    to[5] = 1;
    to[6] = (u8)(index * 3);
    for (unsigned i = 8; i < HEAD_BYTES; i++)
        to[i] = (u8)(i * 37 + index);
    unsigned skip = index * 11 % sizeof(samples);
    memcpy(to + HEAD_BYTES, samples + skip, sizeof(samples) - skip);
    memcpy(to + HEAD_BYTES + sizeof(samples) - skip, samples, skip);
    return HEAD_BYTES + sizeof(samples);
}

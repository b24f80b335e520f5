/*
 * dbt/simd/x87env.c - FNSTENV, FLDENV, FNSAVE, FRSTOR: the x87 environment in its four formats.
 *
 * Spec   Intel SDM vol. 1 8.1.10, figures 8-9 to 8-12.
 * Runs   on the vCPU's thread.
 *
 *        32 bits, protected            16 bits, protected
 *         0 FCW                         0 FCW
 *         4 FSW                         2 FSW
 *         8 FTW                         4 FTW
 *        12 FIP                         6 FIP
 *        16 FCS, FOP << 16              8 FCS
 *        20 FDP                        10 FDP
 *        24 FDS                        12 FDS
 * In real-address and virtual-8086 mode the pointers are linear addresses: their low 16 bits stand
 * where FIP and FDP do, the others from bit 12 of the following field, with FOP below those of FIP.
 *
 * The host's own FNSTENV, in 64-bit mode, always has the first format.
 */
#include "base/bits.h"
#include "dbt/simd/simd_priv.h"

enum { ENV_FIP = 12, ENV_FCS = 16, ENV_FDP = 20, ENV_FDS = 24, ENV_BYTES = 28 };
enum { ENV16_FIP = 6, ENV16_FCS = 8, ENV16_FDP = 10, ENV16_FDS = 12, ENV16_BYTES = 14 };
enum { ST_BYTES = 80, ENV_ALIGN_MASK = 3 };

static bool env_is_real(const struct cpu *cpu)
{
    return (cpu->cr0 & X86_CR0_PE) == 0 || (cpu->rflags & X86_VM) != 0;
}

static unsigned env_bytes(const struct insn *insn)
{
    return insn->operand_bytes == 2 ? ENV16_BYTES : ENV_BYTES;
}

/* Turns the host's 28 bytes at IMAGE into the guest's format, in place. */
static void env_to_guest(const struct cpu *cpu, const struct insn *insn, u8 *image)
{
    const struct simd_pointers *last = &cpu->simd->last;
    bool real = env_is_real(cpu);
    u16 fcs = simd_selector(cpu, last->fcs), fds = simd_selector(cpu, last->fds);
    u32 fip = (u32)(real ? last->fip + (u64)last->fcs * 16 : last->fip);
    u32 fdp = (u32)(real ? last->fdp + (u64)last->fds * 16 : last->fdp);

    if (env_bytes(insn) == ENV_BYTES) {
        store_le32(image + ENV_FIP, real ? fip & 0xffff : fip);
        store_le32(image + ENV_FCS,
                   real ? last->fop | fip >> 16 << 12 : fcs | (u32)last->fop << 16);
        store_le32(image + ENV_FDP, real ? (fdp & 0xffff) | 0xffff0000u : fdp);
        store_le32(image + ENV_FDS, real ? fdp >> 16 << 12 : fds | 0xffff0000u);
        return;
    }
    store_le16(image + 2, load_le16(image + 4));
    store_le16(image + 4, load_le16(image + 8));
    store_le16(image + ENV16_FIP, (u16)fip);
    store_le16(image + ENV16_FCS, real ? (u16)(last->fop | fip >> 16 << 12) : fcs);
    store_le16(image + ENV16_FDP, (u16)fdp);
    store_le16(image + ENV16_FDS, real ? (u16)(fdp >> 16 << 12) : fds);
}

/* Makes of the guest's bytes at IMAGE the host's 28, in place (there is room), and returns the
 * pointers that they held. */
static struct simd_pointers env_from_guest(const struct cpu *cpu, const struct insn *insn,
                                           u8 *image)
{
    bool wide = env_bytes(insn) == ENV_BYTES;
    u32 fip = wide ? load_le32(image + ENV_FIP) : load_le16(image + ENV16_FIP);
    u32 fcs = wide ? load_le32(image + ENV_FCS) : load_le16(image + ENV16_FCS);
    u32 fdp = wide ? load_le32(image + ENV_FDP) : load_le16(image + ENV16_FDP);
    u32 fds = wide ? load_le32(image + ENV_FDS) : load_le16(image + ENV16_FDS);
    struct simd_pointers last = {.fip = fip, .fdp = fdp};

    if (env_is_real(cpu)) {
        last.fip = (fip & 0xffff) | (fcs >> 12 & 0xffff) << 16;
        last.fdp = (fdp & 0xffff) | (fds >> 12 & 0xffff) << 16;
        last.fop = fcs & 0x7ff;
    } else {
        last.fcs = (u16)fcs;
        last.fds = (u16)fds;
        last.fop = wide ? fcs >> 16 & 0x7ff : 0;
    }
    if (!wide) {
        store_le16(image + 8, load_le16(image + 4));
        store_le16(image + 4, load_le16(image + 2));
    }
    simd_zero(image + ENV_FIP, ENV_BYTES - ENV_FIP);
    return last;
}

void simd_run_fstenv(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    unsigned bytes = env_bytes(insn);
    gva_t gva = insn_linear(cpu, insn, bytes, ACCESS_WRITE);

    simd_align_check(cpu, gva, ENV_ALIGN_MASK);
    simd_image_probe(cpu, gva, bytes, ACCESS_WRITE);
    if (!simd_store_resumed(cpu)) {
        __asm__ volatile("fnstenv (%0)" : : "r"(image) : "memory"); /* masks all exceptions */
        env_to_guest(cpu, insn, image);
        simd_store_begun(cpu);
    }
    simd_store_finish(cpu, gva, bytes);
}

void simd_run_fsave(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    unsigned bytes = env_bytes(insn);
    gva_t gva = insn_linear(cpu, insn, bytes + ST_BYTES, ACCESS_WRITE);

    simd_align_check(cpu, gva, ENV_ALIGN_MASK);
    simd_image_probe(cpu, gva, bytes + ST_BYTES, ACCESS_WRITE);
    if (!simd_store_resumed(cpu)) {
        __asm__ volatile("fnsave (%0)" : : "r"(image) : "memory"); /* and resets the x87 */
        env_to_guest(cpu, insn, image);
        if (bytes != ENV_BYTES)
            simd_copy(image + bytes, image + ENV_BYTES, ST_BYTES);
        cpu->simd->last = (struct simd_pointers){0};
        simd_store_begun(cpu);
    }
    simd_store_finish(cpu, gva, bytes + ST_BYTES);
}

void simd_run_fldenv(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    unsigned bytes = env_bytes(insn);

    simd_wait(cpu);
    gva_t gva = insn_linear(cpu, insn, bytes, ACCESS_READ);
    simd_align_check(cpu, gva, ENV_ALIGN_MASK);
    simd_image_probe(cpu, gva, bytes, ACCESS_READ);
    simd_memory_read(cpu, gva, image, bytes);
    struct simd_pointers last = env_from_guest(cpu, insn, image);
    simd_call(cpu, insn, plan, image);
    cpu->simd->last = last;
}

void simd_run_frstor(struct cpu *cpu, const struct insn *insn, const struct simd_plan *plan)
{
    u8 *image = cpu->simd->bounce;
    unsigned bytes = env_bytes(insn);

    simd_wait(cpu);
    gva_t gva = insn_linear(cpu, insn, bytes + ST_BYTES, ACCESS_READ);
    simd_align_check(cpu, gva, ENV_ALIGN_MASK);

    simd_image_probe(cpu, gva, bytes + ST_BYTES, ACCESS_READ);
    /* The registers end up behind 28 bytes of environment in either format. */
    simd_memory_read(cpu, gva, image, bytes);
    simd_memory_read(cpu, gva + bytes, image + ENV_BYTES, ST_BYTES);
    struct simd_pointers last = env_from_guest(cpu, insn, image);
    simd_call(cpu, insn, plan, image);
    cpu->simd->last = last;
}

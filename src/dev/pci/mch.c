/*
 * dev/pci/mch.c - Q35's memory controller, as far as firmware programs it.
 *
 * Spec   Intel 3 Series Express Chipset Family, 5.1: PCIEXBAR, PAM0 to PAM6, SMRAM.
 * Runs   on vCPU threads, under the function's lock.
 * Trust  the guest puts the ECAM window anywhere; the bus refuses a place that is taken.
 *
 *   0x60  PCIEXBAR, 8 bytes: 35:26 base | 2:1 256, 128 or 64 buses | 0 enable
 *   0x90  PAM0 to PAM6      0x9d  SMRAM: reads as closed and locked
 */
#include "dev/pci/mch.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "dev/pci/function.h"
#include "dev/pci/pci_bus.h"

enum { PCIEXBAR = 0x60, PCIEXBAR_BYTES = 8, PAM0 = 0x90, PAM_COUNT = 7, SMRAM = 0x9d };
enum { PAM_WRITABLE = 0x33, PAM0_WRITABLE = 0x30, SMRAM_LOCKED = 0x12, BUSES_MAX = 256 };
#define PCIEXBAR_WRITABLE 0x0000000ffc000007ull
#define PCIEXBAR_BASE 0x0000000ffc000000ull

struct mch {
    struct pci_function function;
    struct lock lock;
};

static void place_ecam(struct pci_function *function)
{
    u64 value = load_le64(function->config + PCIEXBAR);
    unsigned buses = BUSES_MAX >> bits_get(value, 1, 2);
    gpa_t base = value & PCIEXBAR_BASE & ~(((u64)buses << 20) - 1);

    /* Size 3 is reserved. */
    pci_bus_move_ecam(function->bus, (value & 1) && bits_get(value, 1, 2) != 3 ? base : 0, buses);
}

static void mch_config_access(struct pci_function *function, unsigned offset, unsigned bytes,
                              bool is_write)
{
    if (is_write && offset < PCIEXBAR + PCIEXBAR_BYTES && offset + bytes > PCIEXBAR)
        place_ecam(function);
}

static int mch_load(struct pci_function *function, struct state_reader *reader, struct err *err)
{
    place_ecam(function);
    return 0;
}

static void mch_free(struct pci_function *function)
{
    alloc_free(container_of(function, struct mch, function));
}

static const struct pci_ops mch_ops = {
    .config_access = mch_config_access, .reset = place_ecam, .load = mch_load, .free = mch_free};

struct pci_function *mch_new(void)
{
    static const struct pci_ids ids = {.vendor = 0x8086,
                                       .device = 0x29c0,
                                       .subsystem_vendor = 0x1af4,
                                       .subsystem = 0x1100,
                                       .class_code = 0x060000};
    struct mch *mch = new0(struct mch);

    if (mch == NULL)
        return NULL;
    pci_function_init(&mch->function, &mch_ops, &ids, &mch->lock);
    mch->function.name = "q35-mch";
    store_le64(mch->function.write_mask + PCIEXBAR, PCIEXBAR_WRITABLE);
    __builtin_memset(mch->function.write_mask + PAM0, PAM_WRITABLE, PAM_COUNT);
    mch->function.write_mask[PAM0] = PAM0_WRITABLE;
    mch->function.config[SMRAM] = SMRAM_LOCKED;
    return &mch->function;
}

/*
 * dev/pci/pci_bus.c - the functions of PCI bus 0, where their BARs lie, and their interrupt lines.
 *
 * Runs   on vCPU threads (BAR moves, interrupts) and on the loop (interrupts).
 * Trust  the guest moves BARs anywhere, also onto each other: the first to come keeps the place,
 * and the other is mapped when the place becomes free.
 */
#include "dev/pci/pci_bus.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/errno.h"
#include "core/bus.h"
#include "dev/pci/function_priv.h"
#include "dev/pci/host_bridge.h"

struct pci_bus {
    struct pci_bus_config config;
    struct host_bridge bridge;
    struct lock map_lock;            /* of every BAR's wanted_base and mapped_base */
    struct lock intx_lock;           /* of intx_counts and the order of level changes */
    u16 intx_counts[PCI_INTX_COUNT]; /* functions that assert the line */
    u16 blocked_count;               /* BARs whose place is taken by something else */
    u32 ecam_refused_count;          /* places for ECAM that were taken */
    struct pci_function *functions[PCI_SLOT_COUNT][PCI_FUNCTION_COUNT]; /* owned */
};

#define for_each_function(bus, it)                                                       \
    for (unsigned it##_at = 0; it##_at < PCI_SLOT_COUNT * PCI_FUNCTION_COUNT; it##_at++) \
        for (struct pci_function *it = (bus)->functions[it##_at / 8][it##_at % 8]; it; it = NULL)

struct pci_bus *pci_bus_new(const struct pci_bus_config *config, struct err *err)
{
    struct pci_bus *bus = new0(struct pci_bus);
    struct pci_function *bridge = config->host ? config->host : host_bridge_function_new();
    if (bus == NULL || bridge == NULL) {
        if (bridge)
            bridge->ops->free(bridge);
        err_set(err, -ENOMEM, "PCI bus: out of memory");
        goto fail;
    }
    bus->config = *config;
    if (pci_bus_add(bus, bridge, 0, 0, err) < 0)
        goto fail;
    if (host_bridge_init(&bus->bridge, bus, config, err) < 0)
        goto fail;
    return bus;
fail:
    pci_bus_free(bus);
    return NULL;
}

void pci_bus_free(struct pci_bus *bus)
{
    if (bus == NULL)
        return;
    for_each_function(bus, function) function->ops->free(function);
    alloc_free(bus);
}

struct pci_function *pci_bus_find(struct pci_bus *bus, unsigned slot, unsigned number)
{
    return slot < PCI_SLOT_COUNT && number < PCI_FUNCTION_COUNT ? bus->functions[slot][number]
                                                                : NULL;
}

int pci_bus_add(struct pci_bus *bus, struct pci_function *function, unsigned slot, unsigned number,
                struct err *err)
{
    if (slot >= PCI_SLOT_COUNT || number >= PCI_FUNCTION_COUNT || bus->functions[slot][number]) {
        const char *name = function->name;
        function->ops->free(function);
        return err_set(err, -EBUSY, "PCI bus: no place for %s at %u.%u; slots are 0 to 31", name,
                       slot, number);
    }
    bus->functions[slot][number] = function;
    function->bus = bus;
    function->slot = (u8)slot;
    function->number = (u8)number;
    if (number > 0 && bus->functions[slot][0])
        bus->functions[slot][0]->config[PCI_HEADER_TYPE] |= PCI_HEADER_MULTI_FUNCTION;
    for (unsigned i = 1; number == 0 && i < PCI_FUNCTION_COUNT; i++)
        if (bus->functions[slot][i])
            function->config[PCI_HEADER_TYPE] |= PCI_HEADER_MULTI_FUNCTION;
    return 0;
}

/* ---- interrupts ---- */

void pci_bus_intx(struct pci_bus *bus, const struct pci_function *function, bool level)
{
    unsigned line = pci_bus_intx_line(function->slot);
    lock_acquire(&bus->intx_lock);
    u16 before = bus->intx_counts[line];
    u16 after = level ? before + 1 : before - 1;
    bus->intx_counts[line] = after;
    if ((before == 0) != (after == 0))
        irq_set(&bus->config.intx[line], after != 0);
    lock_release(&bus->intx_lock);
}

void pci_bus_intx_again(struct pci_bus *bus)
{
    lock_acquire(&bus->intx_lock);
    for (unsigned line = 0; line < PCI_INTX_COUNT; line++)
        irq_set(&bus->config.intx[line], bus->intx_counts[line] != 0);
    lock_release(&bus->intx_lock);
}

void pci_bus_msi(struct pci_bus *bus, u64 address, u32 data)
{
    msi_send(&bus->config.msi, address, data);
}

/* ---- where BARs lie ---- */

static enum bus_space bar_space(const struct pci_bar *bar)
{
    return bar->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO;
}

static void bar_unmap(struct pci_bus *bus, struct pci_bar *bar)
{
    if (bar->mapped_base == PCI_BAR_NOWHERE || bar->mapped_base == bar->wanted_base)
        return;
    bus_remove(bus->config.bus, bar_space(bar), bar->mapped_base, bar);
    bar->mapped_base = PCI_BAR_NOWHERE;
}

static void bar_map(struct pci_bus *bus, struct pci_bar *bar)
{
    if (bar->wanted_base == bar->mapped_base)
        return;
    struct bus_range range = {.base = bar->wanted_base,
                              .bytes = bar->bytes,
                              .ops = &pci_bar_bus_ops,
                              .device = bar,
                              .lock = bar->function->lock,
                              .name = bar->function->name};
    if (bus_add(bus->config.bus, bar_space(bar), &range) == 0)
        bar->mapped_base = bar->wanted_base;
    else
        bus->blocked_count++;
}

void pci_bus_remap(struct pci_bus *bus, struct pci_function *function)
{
    if (bus == NULL)
        return;
    bool moved = false;
    lock_acquire(&bus->map_lock);
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        struct pci_bar *bar = &function->bars[i];
        moved = moved || (bar->ram && bar->mapped_base != pci_bar_wanted(function, bar));
        function->bars[i].wanted_base = pci_bar_wanted(function, &function->bars[i]);
        bar_unmap(bus, &function->bars[i]);
    }
    bool others = bus->blocked_count > 0;
    bus->blocked_count = 0;
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
        bar_map(bus, &function->bars[i]);
    if (others) {
        bus->blocked_count = 0;
        for_each_function(bus, other) for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
            bar_map(bus, &other->bars[i]);
    }
    lock_release(&bus->map_lock);
    if ((moved || others) && bus->config.ram_moved)
        bus->config.ram_moved(bus->config.ram_moved_ctx);
}

bool pci_bus_ram(struct pci_bus *bus, unsigned index, const struct pci_bar **ret_bar, u64 *ret_base)
{
    for_each_function(bus, function) for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
    {
        struct pci_bar *bar = &function->bars[i];
        if (bar->ram == NULL || index-- > 0)
            continue;
        lock_acquire(&bus->map_lock);
        *ret_bar = bar;
        *ret_base = bar->mapped_base;
        lock_release(&bus->map_lock);
        return true;
    }
    return false;
}

void pci_bus_move_ecam(struct pci_bus *bus, gpa_t base, unsigned bus_count)
{
    lock_acquire(&bus->map_lock);
    if (host_bridge_move_ecam(&bus->bridge, base, bus_count) < 0)
        bus->ecam_refused_count++;
    lock_release(&bus->map_lock);
}

gpa_t pci_bus_ecam(struct pci_bus *bus)
{
    lock_acquire(&bus->map_lock);
    gpa_t base = bus->bridge.ecam_base;
    lock_release(&bus->map_lock);
    return base;
}

bool pci_bus_high_bars(struct pci_bus *bus, u64 *ret_base, u64 *ret_end)
{
    u64 base = UINT64_MAX, end = 0;

    lock_acquire(&bus->map_lock);
    for_each_function(bus, function) for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
    {
        const struct pci_bar *bar = &function->bars[i];
        if (bar->mapped_base == PCI_BAR_NOWHERE || bar->mapped_base >> 32 == 0)
            continue;
        base = min_u64(base, bar->mapped_base);
        if (bar->mapped_base + bar->bytes > end)
            end = bar->mapped_base + bar->bytes;
    }
    lock_release(&bus->map_lock);
    *ret_base = base;
    *ret_end = end;
    return end != 0;
}

struct window {
    u64 next, end;
};

/* Takes BYTES, aligned to themselves, out of WINDOW; 0 when they do not fit. */
static u64 window_take(struct window *window, u64 bytes)
{
    u64 base = align_up(window->next, bytes);
    if (base < window->next || base >= window->end || window->end - base < bytes)
        return 0;
    window->next = base + bytes;
    return base;
}

static int bar_assign(struct pci_bar *bar, struct window *memory32, struct window *memory64,
                      struct window *io)
{
    struct window *window = bar->kind == PCI_BAR_IO                               ? io
                            : bar->kind == PCI_BAR_MEMORY64 && memory64->end != 0 ? memory64
                                                                                  : memory32;
    u64 base = window_take(window, bar->bytes);
    if (base == 0)
        return -ENOSPC;
    u8 *at = bar->function->config + PCI_BAR0 + 4 * bar->index;
    u32 flags = load_le32(at) & PCI_BAR_FLAGS_MEMORY;
    store_le32(at, (u32)base | flags);
    if (bar->kind == PCI_BAR_MEMORY64)
        store_le32(at + 4, (u32)(base >> 32));
    return 0;
}

int pci_bus_assign(struct pci_bus *bus, const struct pci_windows *windows, struct err *err)
{
    struct window memory32 = {windows->memory32_base, windows->memory32_end};
    struct window memory64 = {windows->memory64_base, windows->memory64_end};
    struct window io = {windows->io_base, windows->io_end};
    for (u64 bytes = BIT(40); bytes > 0; bytes >>= 1) {
        for_each_function(bus, function) for (unsigned i = 0; i < PCI_BAR_COUNT; i++)
        {
            struct pci_bar *bar = &function->bars[i];
            if (bar->kind == PCI_BAR_NONE || bar->bytes != bytes)
                continue;
            if (bar_assign(bar, &memory32, &memory64, &io) < 0)
                return err_set(err, -ENOSPC,
                               "PCI bus: no address space left for BAR %u of %s (0x%llx bytes)", i,
                               function->name, (unsigned long long)bytes);
        }
    }
    for_each_function(bus, function)
    {
        lock_acquire(function->lock);
        if (function->config[PCI_INTERRUPT_PIN] != 0)
            function->config[PCI_INTERRUPT_LINE] =
                bus->config.intx_irq[pci_bus_intx_line(function->slot)];
        pci_config_write(function, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
        lock_release(function->lock);
    }
    return 0;
}

/* ---- reset and state ---- */

void pci_bus_reset(struct pci_bus *bus)
{
    host_bridge_reset(&bus->bridge);
    for_each_function(bus, function)
    {
        lock_acquire(function->lock);
        pci_function_reset(function);
        lock_release(function->lock);
    }
}

void pci_bus_save(struct pci_bus *bus, struct state_writer *writer)
{
    u32 count = 0;
    for_each_function(bus, function) count++;
    state_save(writer, host_bridge_state, &bus->bridge);
    state_put(writer, &count, sizeof(count));
    for_each_function(bus, function)
    {
        u8 place[2] = {function->slot, function->number};
        state_put(writer, place, sizeof(place));
        lock_acquire(function->lock);
        pci_function_save(function, writer);
        lock_release(function->lock);
    }
}

static int function_load(struct pci_bus *bus, struct state_reader *reader, struct err *err)
{
    u8 place[2];
    if (state_take(reader, place, sizeof(place)) < 0)
        return err_set(err, -EPROTO, "the saved state ends before a PCI function");
    struct pci_function *function = pci_bus_find(bus, place[0], place[1]);
    if (function == NULL)
        return err_set(err, -EPROTO,
                       "the saved state has a PCI function at %u.%u, this machine not", place[0],
                       place[1]);
    lock_acquire(function->lock);
    int result = pci_function_load(function, reader, err);
    lock_release(function->lock);
    return result;
}

int pci_bus_load(struct pci_bus *bus, struct state_reader *reader, struct err *err)
{
    u32 saved_count, count = 0;
    for_each_function(bus, function) count++;
    int result = state_load(reader, host_bridge_state, &bus->bridge, err);
    if (result < 0)
        return result;
    if (state_take(reader, &saved_count, sizeof(saved_count)) < 0 || saved_count != count)
        return err_set(err, -EPROTO, "the saved state has %u PCI functions, this machine %u",
                       saved_count, count);
    for (u32 i = 0; i < count && result == 0; i++)
        result = function_load(bus, reader, err);
    return result;
}

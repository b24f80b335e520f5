/*
 * dev/lapic_bus.c - the bus that carries interrupt messages to the local APICs: who is meant by a
 * destination, and how a message is left for a vCPU that runs.
 *
 * Spec   Intel SDM vol. 3A 11.6 (IPIs, destinations), 11.11 (messages), 11.12.9 and 10 (x2APIC).
 * Runs   on any thread, without locks.
 * Trust  addresses, data and ICR values come from the guest.
 *
 * A post sets its bits first and `posted` last; the vCPU's thread clears `posted` first and takes
 * the bits last. So a poster that finds `posted` set knows that its bits will be seen, and need not
 * kick.
 */
#include "base/alloc.h"
#include "dev/lapic_priv.h"

enum apic_shorthand { TO_DESTINATION, TO_SELF, TO_ALL, TO_OTHERS };

struct message {
    const struct lapic *from; /* NULL for a device's message */
    u32 destination;
    bool is_logical;
    bool is_broadcast;
    bool is_level;
    enum apic_mode mode;
    u8 vector;
    enum apic_shorthand shorthand;
};

void lapic_notify(struct lapic *lapic, const struct lapic *from)
{
    if (__atomic_exchange_n(&lapic->posted, 1, __ATOMIC_SEQ_CST) == 0 && lapic != from)
        lapic->bus->host.kick(lapic->bus->host.ctx, lapic->index);
}

static void post_note(struct lapic *lapic, enum apic_note note, const struct lapic *from)
{
    __atomic_fetch_or(&lapic->notes, note, __ATOMIC_RELAXED);
    lapic_notify(lapic, from);
}

static void post_vector(struct lapic *lapic, const struct message *message)
{
    u32 *irr = &lapic->post_irr[message->vector / 32];
    u32 *tmr = &lapic->post_tmr[message->vector / 32];
    u32 bit = (u32)BIT(message->vector % 32);

    if (!lapic_software_on(lapic))
        return;
    if (message->vector < 16) {
        post_note(lapic, NOTE_ILLEGAL, message->from);
        return;
    }
    if (message->is_level)
        __atomic_fetch_or(tmr, bit, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(tmr, ~bit, __ATOMIC_RELAXED);
    __atomic_fetch_or(irr, bit, __ATOMIC_RELEASE);
    lapic_notify(lapic, message->from);
}

/* INIT forgets a start-up that came before it; a start-up after it waits with it. */
static void post_event(struct lapic *lapic, enum lapic_event event, u8 vector,
                       const struct lapic *from)
{
    u32 old = __atomic_load_n(&lapic->events, __ATOMIC_RELAXED), new;

    do {
        if (event == LAPIC_EVENT_INIT)
            new = (old & (LAPIC_EVENT_NMI | LAPIC_EVENT_NMI_AGAIN)) | LAPIC_EVENT_INIT;
        else if (event == LAPIC_EVENT_SIPI)
            new = (old & 0xff) | LAPIC_EVENT_SIPI | (u32)vector << 8;
        else if (event == LAPIC_EVENT_NMI && (old & LAPIC_EVENT_NMI))
            new = old | LAPIC_EVENT_NMI_AGAIN;
        else
            new = old | event;
    } while (!__atomic_compare_exchange_n(&lapic->events, &old, new, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
    /* Not by way of `posted`, which a vCPU that waits for SIPI need not look at. */
    if (lapic != from)
        lapic->bus->host.kick(lapic->bus->host.ctx, lapic->index);
}

static void deliver_one(struct lapic *lapic, const struct message *message)
{
    switch (message->mode) {
    case MODE_FIXED:
    case MODE_LOWEST:
        post_vector(lapic, message);
        break;
    case MODE_NMI:
        post_event(lapic, LAPIC_EVENT_NMI, 0, message->from);
        break;
    case MODE_INIT:
        post_event(lapic, LAPIC_EVENT_INIT, 0, message->from);
        break;
    case MODE_SIPI:
        post_event(lapic, LAPIC_EVENT_SIPI, message->vector, message->from);
        break;
    case MODE_EXTINT:
        post_note(lapic, NOTE_EXTINT, message->from);
        break;
    default: /* SMI: there is no system management mode */
        break;
    }
}

static bool matches_logical(const struct lapic *lapic, u32 destination)
{
    u32 ldr = shared_get(&lapic->ldr);

    if (lapic_is_x2apic(lapic))
        return ldr >> 16 == destination >> 16 && (ldr & destination & 0xffff);
    u8 id = (u8)(ldr >> 24);
    if (shared_get(&lapic->dfr) >> 28 == 0xf) /* flat */
        return id & destination;
    return id >> 4 == (u8)destination >> 4 && (id & destination & 0xf);
}

static bool matches(const struct lapic *lapic, const struct message *message)
{
    switch (message->shorthand) {
    case TO_SELF:
        return lapic == message->from;
    case TO_ALL:
        return true;
    case TO_OTHERS:
        return lapic != message->from;
    default:
        break;
    }
    if (message->is_broadcast)
        return true;
    if (message->is_logical)
        return matches_logical(lapic, message->destination);
    if (!lapic_is_x2apic(lapic) && lapic->index > 0xff)
        return false;
    return lapic->index == message->destination;
}

/* Interrupts of lowest priority go round among those that can take them: all priorities here are
 * equal in the end, and a fixed choice would put all load on one. */
static void deliver_lowest(struct apic_bus *bus, const struct message *message)
{
    unsigned first = __atomic_fetch_add(&bus->next_lowest, 1, __ATOMIC_RELAXED) % bus->count;

    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *lapic = &bus->lapics[(first + i) % bus->count];
        if (lapic_software_on(lapic) && matches(lapic, message)) {
            deliver_one(lapic, message);
            return;
        }
    }
}

static void deliver(struct apic_bus *bus, const struct message *message)
{
    if (message->mode == MODE_LOWEST) {
        deliver_lowest(bus, message);
        return;
    }
    if (!message->is_logical && !message->is_broadcast && message->shorthand == TO_DESTINATION) {
        if (message->destination < bus->count &&
            matches(&bus->lapics[message->destination], message))
            deliver_one(&bus->lapics[message->destination], message);
        return;
    }
    for (unsigned i = 0; i < bus->count; i++)
        if (matches(&bus->lapics[i], message))
            deliver_one(&bus->lapics[i], message);
}

/*
 * Address: 31:20 0xfee, 19:12 destination, 3 redirection hint, 2 logical. Data: 7:0 vector,
 * 10:8 mode, 14 assert, 15 level.
 */
void apic_bus_msi(void *ctx, u64 address, u32 data)
{
    struct apic_bus *bus = ctx;
    struct message message = {
        .destination = (u32)bits_get(address, 12, 8),
        .is_logical = address & BIT(2),
        .is_level = data & BIT(15),
        .mode = (enum apic_mode)(data >> 8 & 7),
        .vector = (u8)data,
    };

    if (address >> 20 != 0xfee)
        return;
    /* With the hint set and a logical destination, one of the set takes it (SDM 11.11.1). */
    if ((address & BIT(3)) && message.is_logical && message.mode == MODE_FIXED)
        message.mode = MODE_LOWEST;
    message.is_broadcast = message.destination == 0xff;
    deliver(bus, &message);
}

void lapic_send(struct lapic *from, u64 icr)
{
    bool x2apic = lapic_is_x2apic(from);
    struct message message = {
        .from = from,
        .destination = x2apic ? (u32)(icr >> 32) : (u32)(icr >> 56),
        .is_logical = icr & BIT(11),
        .mode = (enum apic_mode)bits_get(icr, 8, 3),
        .vector = (u8)icr,
        .shorthand = (enum apic_shorthand)bits_get(icr, 18, 2),
    };

    message.is_broadcast = message.destination == (x2apic ? UINT32_MAX : 0xff);
    if (message.mode == MODE_INIT && !(icr & BIT(14)))
        return; /* the de-assertion synchronised arbitration ids of old parts */
    deliver(from->bus, &message);
}

unsigned lapic_send_ipi(struct lapic *from, const struct lapic_ipi *ipi)
{
    struct apic_bus *bus = from->bus;
    const struct message message = {
        .from = from, .mode = (enum apic_mode)bits_get(ipi->icr, 8, 3), .vector = (u8)ipi->icr};
    unsigned sent = 0;

    for (unsigned word = 0; word < ARRAY_LEN(ipi->bitmaps); word++) {
        u64 first = (u64)ipi->first + (u64)word * ipi->word_bits;
        u64 bits = ipi->bitmaps[word] & (UINT64_MAX >> (64 - ipi->word_bits));
        for (; bits != 0; bits &= bits - 1) {
            u64 id = first + (unsigned)__builtin_ctzll(bits);
            if (id >= bus->count)
                break;
            deliver_one(&bus->lapics[id], &message);
            sent++;
        }
    }
    return sent;
}

void apic_bus_kick(struct apic_bus *bus, u64 id)
{
    if (id < bus->count)
        post_event(&bus->lapics[id], LAPIC_EVENT_KICK, 0, NULL);
}

void apic_bus_intr(void *ctx, unsigned pin, bool level)
{
    struct apic_bus *bus = ctx;

    for (unsigned i = 0; i < bus->count; i++) {
        struct lapic *lapic = &bus->lapics[i];
        bool was_high = __atomic_exchange_n(&lapic->intr, level, __ATOMIC_SEQ_CST);
        u32 lvt = shared_get(&lapic->lvt[LVT_LINT0]);
        struct message message = {.mode = (enum apic_mode)(lvt >> 8 & 7), .vector = (u8)lvt};

        if (!level || was_high)
            continue;
        if (lapic_takes_extint(lapic))
            lapic_notify(lapic, NULL);
        else if (!(lvt & LVT_MASKED) && (message.mode == MODE_FIXED || message.mode == MODE_NMI))
            deliver_one(lapic, &message);
    }
}

void apic_bus_nmi(void *ctx, unsigned pin, bool level)
{
    struct apic_bus *bus = ctx;

    for (unsigned i = 0; level && i < bus->count; i++) {
        struct lapic *lapic = &bus->lapics[i];
        u32 lvt = shared_get(&lapic->lvt[LVT_LINT1]);
        struct message message = {.mode = (enum apic_mode)(lvt >> 8 & 7), .vector = (u8)lvt};

        if (!lapic_hardware_on(lapic))
            message.mode = MODE_NMI; /* the pin is then the processor's own NMI pin */
        else if (lvt & LVT_MASKED)
            continue;
        if (message.mode == MODE_NMI || message.mode == MODE_FIXED)
            deliver_one(lapic, &message);
    }
}

struct apic_bus *apic_bus_new(struct vm_clock *clock, const struct apic_host *host,
                              unsigned vcpu_count)
{
    struct apic_bus *bus = new0(struct apic_bus);

    if (bus == NULL)
        return NULL;
    bus->host = *host;
    bus->clock = clock;
    bus->count = vcpu_count;
    bus->lapics = new0_array(struct lapic, vcpu_count);
    if (bus->lapics == NULL) {
        alloc_free(bus);
        return NULL;
    }
    for (unsigned i = 0; i < vcpu_count; i++) {
        struct lapic *lapic = &bus->lapics[i];
        lapic->bus = bus;
        lapic->index = i;
        lapic_timer_setup(lapic);
        lapic_reset(lapic, false);
    }
    return bus;
}

void apic_bus_free(struct apic_bus *bus)
{
    if (bus == NULL)
        return;
    for (unsigned i = 0; i < bus->count; i++)
        timer_cancel(&bus->lapics[i].timer);
    alloc_free(bus->lapics);
    alloc_free(bus);
}

struct lapic *apic_bus_lapic(struct apic_bus *bus, unsigned index)
{
    return index < bus->count ? &bus->lapics[index] : NULL;
}

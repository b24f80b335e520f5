/*
 * vcpu/kvm/kvm.c - the VM inside KVM: opening it, its memory slots, dirty pages and messages.
 *
 * Spec   Linux Documentation/virt/kvm/api.rst.
 * Runs   construction and memory changes while no vCPU runs; dirty_sync and msi on any thread.
 * Trust  messages come from the guest; KVM checks them.
 *
 * Split irq chip: KVM reports the EOI of a level-triggered vector only when an interrupt route
 * names it. Routes are learnt: the first message of each kind is entered as one before it is sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "dbt/cpu.h"
#include "host/cpu.h"
#include "host/fd.h"
#include "host/thread.h"
#include "vcpu/kvm/kvm_priv.h"
#include "x86/cpuid.h"

enum { KVM_VERSION = 12, CPUID_ROOM = 160 };
enum { TSS_ADDRESS = 0xfffbd000, IDENTITY_MAP_ADDRESS = 0xfffbc000 };
enum { MSI_LEVEL = 1 << 15, MSI_VECTOR = 0xff };
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0 };

int kvm_ioctl(int fd, unsigned long request, void *argument)
{
    int r;

    do
        r = ioctl(fd, request, argument);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static int capability(int fd, unsigned which)
{
    int r = kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)which);
    return r < 0 ? 0 : r;
}

/* ---- what the host offers
 * ------------------------------------------------------------------------ */

static int kvm_open(struct err *err)
{
    int fd = fd_open("/dev/kvm", O_RDWR, 0);

    if (fd == -ENOENT)
        return err_set(err, fd,
                       "/dev/kvm is not there: load the module kvm_amd or kvm_intel, "
                       "and see that virtualisation is on in the firmware");
    if (fd == -EACCES || fd == -EPERM)
        return err_set(err, fd,
                       "/dev/kvm may not be opened: add yourself to its group with "
                       "'usermod -aG kvm $USER' and log in again");
    if (fd < 0)
        return err_set(err, fd, "/dev/kvm: %s", strerror(-fd));
    int version = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);
    if (version != KVM_VERSION) {
        fd_close(&fd);
        return err_set(err, -ENOTSUP, "/dev/kvm speaks version %d of its protocol, not %d", version,
                       KVM_VERSION);
    }
    return fd;
}

int kvm_present(struct err *err)
{
    int fd = kvm_open(err);

    if (fd < 0)
        return fd;
    fd_close(&fd);
    return 0;
}

int kvm_usable(struct err *err)
{
    enum { CPU_HAS_VMX = 1 << 5, CPU_HAS_SVM = 1 << 2 };
    u32 basic[4], extended[4] = {0};

    int r = kvm_present(err);
    if (r < 0)
        return r;
    cpu_cpuid(1, 0, basic);
    cpu_cpuid(0x80000000, 0, extended);
    if (extended[0] >= 0x80000001)
        cpu_cpuid(0x80000001, 0, extended);
    else
        extended[2] = 0;
    if (!(basic[2] & CPU_HAS_VMX) && !(extended[2] & CPU_HAS_SVM))
        return err_set(err, -ENODEV,
                       "/dev/kvm opens, but the processor has neither VMX nor SVM: "
                       "KVM would emulate, slower than our own engine");
    return 0;
}

int kvm_host_cpuid(struct cpuid_entry *ret_entries, unsigned max, struct err *err)
{
    struct kvm_cpuid2 *list = alloc_zero(sizeof(*list) + CPUID_ROOM * sizeof(list->entries[0]));
    int fd = kvm_open(err);

    if (fd < 0 || !list) {
        alloc_free(list);
        return fd < 0 ? fd : err_set(err, -ENOMEM, "no memory for KVM's list of CPUID leaves");
    }
    list->nent = CPUID_ROOM;
    int r = kvm_ioctl(fd, KVM_GET_SUPPORTED_CPUID, list);
    fd_close(&fd);
    if (r < 0)
        err_set(err, r, "KVM does not say which CPUID leaves it supports: %s", strerror(-r));
    for (unsigned i = 0; r >= 0 && i < list->nent && i < max; i++) {
        const struct kvm_cpuid_entry2 *from = &list->entries[i];
        ret_entries[i] = (struct cpuid_entry){.leaf = from->function,
                                              .subleaf = from->index,
                                              .indexed = from->flags &
                                                         KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                              .eax = from->eax,
                                              .ebx = from->ebx,
                                              .ecx = from->ecx,
                                              .edx = from->edx};
    }
    if (r >= 0)
        r = (int)min_u64(list->nent, max);
    alloc_free(list);
    return r;
}

/* ---- memory
 * -------------------------------------------------------------------------------------- */

static struct kvm_engine *engine_of(struct engine *engine)
{
    return container_of(engine, struct kvm_engine, engine);
}

static int slot_set(struct kvm_engine *kvm, unsigned index, const struct mem_slot *slot, u64 bytes)
{
    struct kvm_userspace_memory_region region = {
        .slot = index,
        .flags = (slot->read_only ? KVM_MEM_READONLY : 0) |
                 (kvm->logs_dirty && !slot->read_only ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = slot->base,
        .memory_size = bytes,
        .userspace_addr = (uintptr_t)slot->host,
    };
    return kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int memory_changed(struct engine *engine, struct err *err)
{
    struct kvm_engine *kvm = engine_of(engine);
    const struct mem *mem = engine->mem;

    while (kvm->slot_count > 0) {
        kvm->slot_count--;
        int r = slot_set(kvm, kvm->slot_count, &kvm->slots[kvm->slot_count], 0);
        if (r < 0)
            return err_set(err, r, "KVM does not give up a memory slot: %s", strerror(-r));
    }
    for (unsigned i = 0; i < mem->slot_count; i++) {
        int r = slot_set(kvm, i, &mem->slots[i], mem->slots[i].bytes);
        if (r < 0)
            return err_set(err, r, "KVM refuses %llu MiB of guest memory at 0x%llx: %s",
                           (unsigned long long)(mem->slots[i].bytes >> 20),
                           (unsigned long long)mem->slots[i].base, strerror(-r));
        kvm->slots[i] = mem->slots[i];
        kvm->slot_count = i + 1;
    }
    return 0;
}

/* Turns tracking on; what was written before counts as dirty. */
static void dirty_begin(struct kvm_engine *kvm)
{
    kvm->logs_dirty = true;
    for (unsigned i = 0; i < kvm->slot_count; i++) {
        const struct mem_slot *slot = &kvm->slots[i];
        if (slot->read_only)
            continue;
        if (slot_set(kvm, i, slot, slot->bytes) < 0)
            kvm->logs_dirty = false; /* and every later sync marks everything again */
        for (u64 offset = 0; offset < slot->bytes; offset += MEM_PAGE_BYTES)
            mem_flag_set(kvm->engine.mem, slot->base + offset, MEM_DIRTY);
    }
}

static void dirty_collect(struct kvm_engine *kvm, unsigned index)
{
    const struct mem_slot *slot = &kvm->slots[index];
    u64 page_count = slot->bytes / MEM_PAGE_BYTES;
    u64 *bitmap = new0_array(u64, (page_count + 63) / 64);
    struct kvm_dirty_log log = {.slot = index, .dirty_bitmap = bitmap};
    bool is_read = bitmap && kvm_ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) >= 0;

    for (u64 page = 0; page < page_count; page++)
        if (!is_read || (bitmap[page / 64] >> (page % 64) & 1))
            mem_flag_set(kvm->engine.mem, slot->base + page * MEM_PAGE_BYTES, MEM_DIRTY);
    alloc_free(bitmap);
}

static void dirty_sync(struct engine *engine)
{
    struct kvm_engine *kvm = engine_of(engine);

    lock_acquire(&kvm->lock);
    if (!kvm->logs_dirty)
        dirty_begin(kvm);
    else
        for (unsigned i = 0; i < kvm->slot_count; i++)
            if (!kvm->slots[i].read_only)
                dirty_collect(kvm, i);
    lock_release(&kvm->lock);
}

/* ---- messages
 * ------------------------------------------------------------------------------------ */

static void route_learn(struct kvm_engine *kvm, u64 address, u32 data)
{
    union {
        u8 room[sizeof(struct kvm_irq_routing) + KVM_ROUTES * sizeof(struct kvm_irq_routing_entry)];
        struct kvm_irq_routing head;
    } table = {.room = {0}};

    for (unsigned i = 0; i < kvm->route_count; i++)
        if (kvm->routes[i].address == address && kvm->routes[i].data == data)
            return;
    kvm->routes[kvm->route_next].address = address;
    kvm->routes[kvm->route_next].data = data;
    kvm->route_next = (kvm->route_next + 1) % KVM_ROUTES;
    if (kvm->route_count < KVM_ROUTES)
        kvm->route_count++;
    table.head.nr = kvm->route_count;
    for (unsigned i = 0; i < kvm->route_count; i++)
        table.head.entries[i] = (struct kvm_irq_routing_entry){
            .gsi = i,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi = {.address_lo = (u32)kvm->routes[i].address,
                      .address_hi = (u32)(kvm->routes[i].address >> 32),
                      .data = kvm->routes[i].data}};
    kvm_ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, &table);
}

static void send_msi(struct engine *engine, u64 address, u32 data)
{
    struct kvm_engine *kvm = engine_of(engine);
    struct kvm_msi msi = {
        .address_lo = (u32)address, .address_hi = (u32)(address >> 32), .data = data};

    if (data & MSI_LEVEL) {
        lock_acquire(&kvm->lock);
        route_learn(kvm, address, data);
        lock_release(&kvm->lock);
    }
    kvm_ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi);
}

/* ---- construction
 * -------------------------------------------------------------------------------- */

static int enable(struct kvm_engine *kvm, u32 which, u64 argument)
{
    struct kvm_enable_cap cap = {.cap = which, .args = {argument}};
    return kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap);
}

/* MSRs that KVM does not know, or whose value it refuses, come to the machine; without KVM's local
 * APIC, those of ours as well. */
static int forward_msrs(struct kvm_engine *kvm, bool is_lapic_ours, struct err *err)
{
    static u8 none[1]; /* a bit that is clear denies the MSR to KVM */
    struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};
    static const u32 ours[] = {MSR_APIC_BASE, MSR_TSC_DEADLINE};
    u64 reasons = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;

    if (is_lapic_ours)
        reasons |= KVM_MSR_EXIT_REASON_FILTER;
    int r = enable(kvm, KVM_CAP_X86_USER_SPACE_MSR, reasons);
    for (unsigned i = 0; i < ARRAY_LEN(ours); i++)
        filter.ranges[i] = (struct kvm_msr_filter_range){.flags = KVM_MSR_FILTER_READ |
                                                                  KVM_MSR_FILTER_WRITE,
                                                         .nmsrs = 1,
                                                         .base = ours[i],
                                                         .bitmap = none};
    if (r >= 0 && is_lapic_ours)
        r = kvm_ioctl(kvm->vm_fd, KVM_X86_SET_MSR_FILTER, &filter);
    if (r < 0)
        return err_set(err, r, "KVM cannot hand over MSRs (%s): Linux 5.10 or later is needed",
                       strerror(-r));
    return 0;
}

static int set_up_lapic(struct kvm_engine *kvm, enum kvm_lapic lapic, struct err *err)
{
    int r = -ENOTSUP;

    if (lapic != KVM_LAPIC_USER && capability(kvm->kvm_fd, KVM_CAP_SPLIT_IRQCHIP) > 0)
        r = enable(kvm, KVM_CAP_SPLIT_IRQCHIP, KVM_ROUTES);
    if (r < 0 && lapic == KVM_LAPIC_KERNEL)
        return err_set(err, r, "this KVM has no split irq chip (KVM_CAP_SPLIT_IRQCHIP): %s",
                       strerror(-r));
    kvm->engine.in_kernel_lapic = r >= 0;
    return forward_msrs(kvm, !kvm->engine.in_kernel_lapic, err);
}

static int create_vm(struct kvm_engine *kvm, struct err *err)
{
    u64 identity_map = IDENTITY_MAP_ADDRESS;

    int r = kvm_ioctl(kvm->kvm_fd, KVM_CREATE_VM, NULL);
    if (r < 0)
        return err_set(err, r, "KVM does not make a VM: %s%s", strerror(-r),
                       r == -EBUSY ? " (another hypervisor has the processor)" : "");
    kvm->vm_fd = r;
    r = kvm_ioctl(kvm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (r < (int)sizeof(struct kvm_run))
        return err_set(err, -ENOTSUP, "KVM's shared page is smaller than its layout");
    kvm->run_bytes = (size_t)r;
    if (capability(kvm->kvm_fd, KVM_CAP_IMMEDIATE_EXIT) == 0)
        return err_set(err, -ENOTSUP,
                       "this KVM lacks KVM_CAP_IMMEDIATE_EXIT: Linux 4.13 is needed");
    kvm->has_sregs2 = capability(kvm->kvm_fd, KVM_CAP_SREGS2) > 0;
    kvm->has_tsc_attr = capability(kvm->vm_fd, KVM_CAP_VCPU_ATTRIBUTES) > 0;
    /* Else KVM raises #UD in user-mode code of the guest instead of asking us. */
    enable(kvm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
    /* Pages that VMX without unrestricted guests runs real mode from; SVM ignores them. */
    kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_ADDRESS);
    return 0;
}

static void engine_free(struct engine *engine)
{
    struct kvm_engine *kvm = engine_of(engine);

    fd_close(&kvm->vm_fd);
    fd_close(&kvm->kvm_fd);
    alloc_free(kvm->group);
    alloc_free(kvm);
}

static const struct engine_ops kvm_engine_ops = {
    .name = "kvm",
    .vcpu_new = kvm_vcpu_new,
    .memory_changed = memory_changed,
    .dirty_sync = dirty_sync,
    .msi = send_msi,
    .free = engine_free,
};

struct engine *kvm_engine_new_lapic(struct mem *mem, const struct cpuid_model *model,
                                    enum kvm_lapic lapic, struct err *err)
{
    struct kvm_engine *kvm = new0(struct kvm_engine);

    if (kvm == NULL) {
        err_set(err, -ENOMEM, "no memory for the KVM engine");
        return NULL;
    }
    kvm->engine = (struct engine){.ops = &kvm_engine_ops, .mem = mem, .cpuid = model};
    kvm->vm_fd = -1;
    kvm->kvm_fd = kvm_open(err);
    thread_kick_setup();
    int r = kvm->kvm_fd < 0 ? kvm->kvm_fd : create_vm(kvm, err);
    if (r >= 0)
        r = set_up_lapic(kvm, lapic, err);
    if (r >= 0)
        r = memory_changed(&kvm->engine, err);
    if (r < 0) {
        engine_free(&kvm->engine);
        return NULL;
    }
    kvm->engine.in_kernel_pvclock = true;
    return &kvm->engine;
}

struct engine *kvm_engine_new(struct mem *mem, const struct cpuid_model *model, struct err *err)
{
    return kvm_engine_new_lapic(mem, model, KVM_LAPIC_BEST, err);
}

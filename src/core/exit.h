/*
 * core/exit.h - why a vCPU came back from the guest: a value, the same from every engine.
 *
 * For the kinds that read (EXIT_PORT_READ, EXIT_MMIO_READ, EXIT_MSR_READ) the dispatcher stores the
 * answer in VALUE, and the next vcpu_run() finishes the instruction with it; likewise for
 * EXIT_HYPERCALL. For MSR exits it may set MSR_FAULT instead, and the guest gets #GP(0).
 */
#ifndef CORE_EXIT_H
#define CORE_EXIT_H

#include "base/types.h"

enum vm_exit_kind {
    EXIT_KICKED,    /* vcpu_kick() or a signal; nothing to do for the guest itself */
    EXIT_PORT_READ, /* ADDRESS is the port */
    EXIT_PORT_WRITE,
    EXIT_MMIO_READ, /* ADDRESS is a GPA without RAM */
    EXIT_MMIO_WRITE,
    EXIT_MSR_READ, /* ADDRESS is the MSR; only those that the engine does not hold itself */
    EXIT_MSR_WRITE,
    EXIT_HYPERCALL, /* ADDRESS is its number, ARGS its operands, BYTES 8 in 64-bit code, else 4; the
                       answer is for RAX. KVM's calling convention; CPL 0 is checked */
    EXIT_SPIN,      /* the guest waits in a loop for long; others may run meanwhile */
    EXIT_HLT,       /* the guest waits for an interrupt */
    EXIT_EOI,       /* in-kernel LAPIC only: ADDRESS is the vector whose level-triggered EOI the
                       I/O APIC must see */
    EXIT_SHUTDOWN,  /* triple fault */
    EXIT_FAILED,    /* the engine cannot go on; REASON says why */
    EXIT_KIND_COUNT
};

enum { VM_EXIT_ARGS = 4 };

struct vm_exit {
    enum vm_exit_kind kind;
    u8 bytes;       /* size of the access: 1, 2, 4 or 8 */
    bool msr_fault; /* set by the dispatcher */
    u64 address;
    u64 value;
    u64 args[VM_EXIT_ARGS]; /* EXIT_HYPERCALL: RBX, RCX, RDX, RSI */
    const char *reason;     /* EXIT_FAILED: static text */
};

#endif

/*
 * vcpu/kvm/kvm_guest.h - the tiny guests of kvm_test.c, assembled in kvm_guest.S: code for address
 * 0x1000 (the AP's: 0x9000), which ends with a write to port 0xf4.
 */
#ifndef VCPU_KVM_KVM_GUEST_H
#define VCPU_KVM_KVM_GUEST_H

#include "base/types.h"

extern const u8 guest_ports[], guest_ports_end[];
extern const u8 guest_mmio[], guest_mmio_end[];
extern const u8 guest_msr[], guest_msr_fault[], guest_msr_end[];
extern const u8 guest_irq[], guest_irq_handler[], guest_irq_end[];
extern const u8 guest_spin[], guest_spin_end[];
extern const u8 guest_smp[], guest_smp_end[];
extern const u8 guest_ap[], guest_ap_end[];
extern const u8 guest_message[], guest_message_handler[], guest_message_end[];
extern const u8 guest_xcr0[], guest_xcr0_end[];
extern const u8 guest_tsc_code[], guest_tsc_code_end[];
extern const u8 guest_vector_mmio[], guest_vector_mmio_end[];

#endif

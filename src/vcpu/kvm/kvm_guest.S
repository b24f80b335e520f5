/*
 * vcpu/kvm/kvm_guest.S - the tiny guests of kvm_test.c.
 *
 * Each is position-dependent only by ORIGIN: addresses within it are written as
 * (label - its start) + ORIGIN. Port 0xe9 logs a byte, 0xf4 ends the guest.
 */
#define ORIGIN 0x1000
#define HOLE 0xa0000
#define LAPIC 0xfee00000
#define AT(label, start) ((label) - (start) + ORIGIN)

.macro guest name
    .global \name
\name:
.endm

    .section .rodata
    .intel_syntax noprefix

/* Real mode: string output, a word, string input, output of computed bytes. */
    .code16
guest guest_ports
    mov si, offset AT(text, guest_ports)
    mov cx, 10
    mov dx, 0xe9
    cld
    rep outsb
    mov ax, 0x6f77
    out dx, ax
    mov al, 'r'
    out dx, al
    mov al, 'd'
    out dx, al
    mov al, 'A'
    out dx, al
    inc al
    out dx, al
    mov di, 0x3000
    mov cx, 3
    mov dx, 0x200
    rep insw
    mov al, 0x2a
    out 0xf4, al
1:  hlt
    jmp 1b
text:
    .ascii "real mode!"
guest guest_ports_end

/* Real mode: nothing but a loop. */
guest guest_spin
1:  jmp 1b
guest guest_spin_end

/* Real mode: 'a', then interrupts on until the handler, which logs 'I', was there; then 'b'. */
guest guest_irq
    mov al, 'a'
    out 0xe9, al
    mov ecx, 100000000
    sti
1:  dec ecx
    jz 2f
    cmp byte ptr [0x3000], 0
    je 1b
2:  cli
    mov al, 'b'
    out 0xe9, al
    out 0xf4, al
guest guest_irq_handler
    mov al, 'I'
    out 0xe9, al
    mov byte ptr [0x3000], 1
    iret
guest guest_irq_end

/* Real mode at 0x9000, started by SIPI with vector 9. */
guest guest_ap
    xor ax, ax
    mov ds, ax
    mov dword ptr [0x3000], 0x600d
    out 0xf4, al
guest guest_ap_end

/* Long mode: MMIO of all sizes, unaligned, and a read-modify-write. */
    .code64
guest guest_mmio
    mov edi, HOLE
    mov rbx, [rdi]
    movzx ecx, byte ptr [rdi + 1]
    mov edx, [rdi + 1]
    mov [rdi + 16], rbx
    mov [rdi + 33], bx
    mov [rdi + 40], bl
    inc byte ptr [rdi + 40]
    out 0xf4, al
guest guest_mmio_end

/* Long mode: an MSR that the machine answers, and one that it refuses. */
guest guest_msr
    mov ecx, 0x12345
    rdmsr
    inc eax
    wrmsr
    mov ecx, 0x12346
    rdmsr
    out 0xf4, al
guest guest_msr_fault
    mov al, 'F'
    out 0xe9, al
    out 0xf4, al
guest guest_msr_end

/* Long mode: starts APIC 1 at 0x9000 and waits for its word. */
guest guest_smp
    mov edi, LAPIC
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov dword ptr [rdi + 0x310], 0x01000000
    mov dword ptr [rdi + 0x300], 0x4500
    mov dword ptr [rdi + 0x310], 0x01000000
    mov dword ptr [rdi + 0x300], 0x4609
1:  pause
    cmp dword ptr [0x3000], 0x600d
    jne 1b
    out 0xf4, al
guest guest_smp_end

/* Long mode: twice says that it is ready, halts, and is woken by vector 0x50. */
guest guest_message
    mov edi, LAPIC
    mov dword ptr [rdi + 0xf0], 0x1ff
    mov esi, HOLE
    xor ebx, ebx
1:  cli
    mov byte ptr [rsi + rbx], 1
    sti
    hlt
    cmp ebx, 2
    jne 1b
    out 0xf4, al
guest guest_message_handler
    inc ebx
    mov al, 'M'
    out 0xe9, al
    mov dword ptr [rdi + 0xb0], 0
    iretq
guest guest_message_end

/* Long mode: all of XCR0 that there is for AVX; then the size of its state by CPUID. */
guest guest_xcr0
    mov rax, cr4
    or eax, 1 << 18
    mov cr4, rax
    xor ecx, ecx
    xor edx, edx
    mov eax, 7
    xsetbv
    mov eax, 0xd
    xor ecx, ecx
    cpuid
    out 0xf4, al
guest guest_xcr0_end

guest guest_tsc_code
    rdtsc
    out 0xf4, al
guest guest_tsc_code_end

/* Long mode: doubles 16 bytes of MMIO, by instructions that no emulator of KVM's has. */
guest guest_vector_mmio
    mov edi, HOLE
    pxor xmm0, xmm0
    paddb xmm0, [rdi]
    paddb xmm0, [rdi]
    movdqu [rdi + 16], xmm0
    out 0xf4, al
guest guest_vector_mmio_end

    .section .note.GNU-stack, "", @progbits

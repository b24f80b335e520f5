; tests/guest/long.asm - long mode: how to get there, 64-bit gates and stacks, SYSCALL, compatibility
; mode, page faults. A 64 KiB ROM that starts at the reset vector; see report.inc.
;
; Spec   Intel SDM vol. 3A chapters 2, 4, 5, 6 and 9.8.5; AMD64 APM vol. 2 chapters 4, 8 and 14.
; Defining TCG leaves out what QEMU's translator does not do: RF in frames, reserved bits of control
; registers, some canonical checks; it loads a null SS for every IST stack
; and names IDT entries by twice their number.

        cpu x64
        org 0xf0000
%include "report.inc"

VARIABLES equ 0x10000
GDT equ 0x11000
IDT equ 0x12000
TSS equ 0x13000
LDT equ 0x13200
PML4 equ 0x14000
PDPT equ 0x15000
DIRECTORY equ 0x16000
PAGE_TABLE equ 0x17000
STACK_MAIN equ 0x20000
STACK_RING0 equ 0x24000
STACK_RING3 equ 0x28000
STACK_IST equ 0x2c000
STACK_DOUBLE equ 0x2e000
TEST_PAGES equ 0x80             ; page numbers of pages with rights of their own
BASE_PHYSICAL_GS equ 0x12345678

resume equ VARIABLES + 0
resume_rsp equ VARIABLES + 8
got_vector equ VARIABLES + 16
got_error equ VARIABLES + 24
got_rip equ VARIABLES + 32
got_cs equ VARIABLES + 40
got_rflags equ VARIABLES + 48
got_rsp equ VARIABLES + 56
got_ss equ VARIABLES + 64
got_cr2 equ VARIABLES + 72
got_frame equ VARIABLES + 80
handler_ss equ VARIABLES + 88
scratch equ VARIABLES + 128
NO_VECTOR equ 0xffffffff

%define SELECTOR(name) (name - gdt_image)
gdt_image:
        dq 0
code32: dq 0x00cf9a000000ffff
data0:  dq 0x00cf92000000ffff
code64: dq 0x00af9a000000ffff
star32: dq 0x00cffa000000ffff   ; SYSRET's order: 32-bit code, data, 64-bit code
data3:  dq 0x00cff2000000ffff
code3:  dq 0x00affa000000ffff
both:   dq 0x00ef9a000000ffff   ; L and D
tss:    dq 0x0000890130000067
        dq 0
ldt:    dq 0x000082013200000f
        dq 0
gate:   dq 0
        dq 0
gate_bad: dq 0
        dq 0x00001f0000000000
code64_absent: dq 0x00af1a000000ffff
gdt_end:
CODE32 equ SELECTOR(code32)
DATA0 equ SELECTOR(data0)
CODE64 equ SELECTOR(code64)
STAR32 equ SELECTOR(star32)
CODE32_3 equ SELECTOR(star32) | 3
DATA3 equ SELECTOR(data3) | 3
CODE3 equ SELECTOR(code3) | 3
BOTH equ SELECTOR(both)
TSS_SEL equ SELECTOR(tss)
LDT_SEL equ SELECTOR(ldt)
GATE equ SELECTOR(gate)
GATE_BAD equ SELECTOR(gate_bad)
ABSENT equ SELECTOR(code64_absent)
BEYOND equ gdt_end - gdt_image

%ifdef TCG
%define IDT_ERROR(vector) (vector * 16 + 2)
%else
%define IDT_ERROR(vector) (vector * 8 + 2)
%endif

%macro FAULTS 3+
        mov dword [resume], %%after
        mov [resume_rsp], rsp
        mov dword [got_vector], NO_VECTOR
%%at:   %3
%%after:
        CHECK_EQUAL dword [got_vector], %1
        CHECK_EQUAL dword [got_error], %2
        CHECK_EQUAL qword [got_rip], %%at
%endmacro

%macro TRAPS 2+
        mov dword [resume], %%after
        mov [resume_rsp], rsp
        mov dword [got_vector], NO_VECTOR
        %2
%%after:
        CHECK_EQUAL dword [got_vector], %1
        CHECK_EQUAL qword [got_rip], %%after
%endmacro

; RING3 label, code selector: to level 3 until an exception there.
%macro RING3 2
        mov dword [resume], %%after
        mov [resume_rsp], rsp
        mov dword [got_vector], NO_VECTOR
        push DATA3
        push STACK_RING3
        push 2
        push %2
        push %1
        iretq
%%after:
%endmacro

; ---- the way up ------------------------------------------------------------------------------------
        bits 16
%define REAL(label) (label - $$)
%define FAILURE report_failure16
start:
        cli
        cld
        xor ax, ax
        mov ss, ax
        mov sp, 0x7000
        o32 lgdt [cs:REAL(gdt_pointer_rom)]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword CODE32:protected
report_failure16:
        REPORT_EAX
gdt_pointer_rom:
        dw gdt_end - gdt_image - 1
        dd gdt_image

        bits 32
%define FAILURE report_failure32
report_failure32:
        REPORT_EAX

protected:
        mov ax, DATA0
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, STACK_MAIN
        mov esi, gdt_image
        mov edi, GDT
        mov ecx, (gdt_end - gdt_image) / 4
        rep movsd
        lgdt [gdt_pointer32]

        ; Identity maps: the first 2 MiB by 4 KiB pages, the rest of 1 GiB by large ones.
        mov dword [PML4], PDPT | 7
        mov dword [PDPT], DIRECTORY | 7
        mov edi, DIRECTORY
        mov eax, 0x87
.large: mov [edi], eax
        add edi, 8
        add eax, 0x200000
        cmp edi, DIRECTORY + 0x1000
        jb .large
        mov dword [DIRECTORY], PAGE_TABLE | 7
        mov edi, PAGE_TABLE
        mov eax, 7
.small: mov [edi], eax
        add edi, 8
        add eax, 0x1000
        cmp edi, PAGE_TABLE + 0x1000
        jb .small
        mov dword [PAGE_TABLE + TEST_PAGES * 8], 0
        mov dword [PAGE_TABLE + (TEST_PAGES + 1) * 8], 0x81005
        mov dword [PAGE_TABLE + (TEST_PAGES + 2) * 8], 0x82003
        mov dword [PAGE_TABLE + (TEST_PAGES + 3) * 8 + 4], 0x80000000   ; NX
        mov dword [PAGE_TABLE + (TEST_PAGES + 4) * 8 + 4], 0x00100000   ; reserved... if too wide

        mov eax, PML4
        mov cr3, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x900           ; LME, NXE
        wrmsr
        mov eax, cr4
        or eax, 0x20
        mov cr4, eax
        rdmsr
        test eax, 0x400
        CHECK z
        mov eax, cr0
        or eax, 0x80010000
        mov cr0, eax
        rdmsr
        test eax, 0x400         ; LMA
        CHECK nz
        jmp CODE64:long_mode

; ---- 64-bit code -----------------------------------------------------------------------------------
        bits 64
%define FAILURE report_failure
report_failure:
        REPORT_EAX

long_mode:
        mov edi, IDT
        mov esi, stubs
        xor ecx, ecx
.gate:  mov [rdi], si
        mov word [rdi + 2], CODE64
        mov word [rdi + 4], 0x8e00
        mov eax, esi
        shr eax, 16
        mov [rdi + 6], ax
        mov qword [rdi + 8], 0
        add edi, 16
        add esi, STUB_BYTES
        inc ecx
        cmp ecx, STUB_COUNT
        jb .gate
        mov word [IDT + 3 * 16 + 4], 0xee00
        mov word [IDT + 8 * 16 + 4], 0x8e02     ; #DF on IST 2
        mov word [IDT + 0x21 * 16 + 4], 0x8e01  ; IST 1
        mov word [IDT + 0x22 * 16 + 4], 0x0e00
        mov word [IDT + 0x23 * 16 + 2], CODE32
        mov word [IDT + 0x24 * 16 + 4], 0x8600  ; a 16-bit gate does not exist here
        mov word [IDT + 0x25 * 16 + 2], DATA0
        mov word [IDT + 0x26 * 16 + 4], 0xef00  ; trap gate, level 3
        mov dword [IDT + 0x27 * 16 + 8], 0x8000 ; a handler at a non-canonical address
        lidt [idt_pointer]

        mov dword [TSS + 4], STACK_RING0
        mov dword [TSS + 36], STACK_IST
        mov dword [TSS + 44], STACK_DOUBLE
        mov ax, TSS_SEL
        ltr ax
        CHECK_EQUAL byte [GDT + TSS_SEL + 5], 0x8b
        xor eax, eax
        mov ds, ax
        mov es, ax
        mov ss, ax              ; null is a stack segment here
        mov rsp, STACK_MAIN

; ---- exceptions at level 0 -------------------------------------------------------------------------
        FAULTS 6, 0, ud2
        CHECK_EQUAL qword [got_frame], STACK_MAIN - 40
        CHECK_EQUAL qword [got_rsp], STACK_MAIN
        CHECK_EQUAL qword [got_ss], 0
        CHECK_EQUAL qword [got_cs], CODE64
%ifndef TCG
        test dword [got_rflags], 0x10000
        CHECK nz
%endif
        ; The frame is aligned to 16 bytes, whatever RSP was.
        sub rsp, 3
        FAULTS 6, 0, ud2
        CHECK_EQUAL qword [got_frame], STACK_MAIN - 16 - 40
        CHECK_EQUAL qword [got_rsp], STACK_MAIN - 3
        add rsp, 3
        TRAPS 3, int3
        TRAPS 0x20, int 0x20
        ; IST: another stack without a change of level; SS stays.
        mov ax, DATA0
        mov ss, ax
        TRAPS 0x21, int 0x21
        CHECK_EQUAL qword [got_frame], STACK_IST - 40
        CHECK_EQUAL qword [got_rsp], STACK_MAIN
        CHECK_EQUAL qword [got_ss], DATA0
%ifndef TCG
        CHECK_EQUAL qword [handler_ss], DATA0
%endif
        FAULTS 11, IDT_ERROR(0x22), int 0x22
        FAULTS 13, CODE32, int 0x23
        FAULTS 13, IDT_ERROR(0x24), int 0x24
        FAULTS 13, DATA0, int 0x25
%ifndef TCG
        FAULTS 13, 0, int 0x27
%endif
        FAULTS 13, IDT_ERROR(0xff), int 0xff

        ; Non-canonical addresses.
        mov rbx, 0x0000800000000000
        mov rbp, rbx
        FAULTS 13, 0, mov al, [rbx]
%ifndef TCG
        FAULTS 12, 0, mov al, [rbp]
        FAULTS 12, 0, mov al, [rsp + rbx]
%endif
        mov rax, rbx
        mov dword [resume], .jumped
        mov [resume_rsp], rsp
        jmp rax
.jumped:
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], 0
        mov rcx, 0xc0000100
        xor eax, eax
        mov edx, 0x8000
%ifndef TCG
        FAULTS 13, 0, wrmsr     ; FS base
%endif

; ---- page faults -----------------------------------------------------------------------------------
        mov rax, 0xfff0
        FAULTS 14, 0, mov al, [0x80123]
        CHECK_EQUAL qword [got_cr2], 0x80123
        FAULTS 14, 2, mov [0x80124], al
        FAULTS 14, 3, mov [0x81124], al
        mov al, [0x81124]
        FAULTS 14, 2, mov [0x7fffc], rax        ; the second page of two
        CHECK_EQUAL qword [got_cr2], 0x80000
        mov byte [0x83000], 0xc3
        mov dword [resume], .no_execute
        mov [resume_rsp], rsp
        mov eax, 0x83000
        jmp rax
.no_execute:
        CHECK_EQUAL dword [got_vector], 14
        CHECK_EQUAL dword [got_error], 0x11
        CHECK_EQUAL qword [got_cr2], 0x83000
        CHECK_EQUAL qword [got_rip], 0x83000
        ; Accessed and dirty bits.
        mov dword [PAGE_TABLE + 0x85 * 8], 0x85007
        invlpg [0x85000]
        mov al, [0x85000]
        CHECK_EQUAL dword [PAGE_TABLE + 0x85 * 8], 0x85027
        mov [0x85000], al
        CHECK_EQUAL dword [PAGE_TABLE + 0x85 * 8], 0x85067
        ; A stale translation may stay until INVLPG.
        mov dword [PAGE_TABLE + 0x85 * 8], 0
        invlpg [0x85000]
        FAULTS 14, 0, mov al, [0x85000]

; ---- control registers and MSRs --------------------------------------------------------------------
%ifndef TCG
        mov rax, cr0
        and eax, 0x7fffffff
        FAULTS 13, 0, mov cr0, rax      ; no way out of 64-bit code
        mov rax, cr4
        and eax, ~0x20
        FAULTS 13, 0, mov cr4, rax
        mov ecx, 0xc0000080
        rdmsr
        and eax, ~0x100
        FAULTS 13, 0, wrmsr
        mov rax, cr0
        bts rax, 40
        FAULTS 13, 0, mov cr0, rax
        mov rax, cr3
        bts rax, 62
        FAULTS 13, 0, mov cr3, rax
        mov eax, 16
        FAULTS 13, 0, mov cr8, rax
%endif
        mov eax, 5
        mov cr8, rax
        mov rbx, cr8
        CHECK_EQUAL rbx, 5
        xor eax, eax
        mov cr8, rax
        mov ecx, 0xc0000101
        mov eax, BASE_PHYSICAL_GS
        xor edx, edx
        wrmsr
        mov ecx, 0xc0000102
        mov eax, scratch
        wrmsr
        swapgs
        mov dword [gs:8], 0x1111
        CHECK_EQUAL dword [scratch + 8], 0x1111
        rdmsr
        CHECK_EQUAL eax, BASE_PHYSICAL_GS
        swapgs
        mov ecx, 0x277          ; PAT: type 2 does not exist
        rdmsr
        mov ebx, eax
        mov al, 2
%ifndef TCG
        FAULTS 13, 0, wrmsr
%endif
        mov eax, ebx
        wrmsr
        mov ecx, 0x10           ; a TSC that is written goes on from there
        mov eax, 0
        mov edx, 0x100
        wrmsr
        rdtsc
%ifndef TCG
        CHECK_EQUAL edx, 0x100
%endif

; ---- far transfers ---------------------------------------------------------------------------------
        mov dword [scratch], far_same
        mov word [scratch + 4], CODE64
        call far dword [scratch]
        CHECK_EQUAL eax, 0x600d
%ifndef TCG
        mov word [scratch + 4], BOTH
        FAULTS 13, BOTH, jmp far dword [scratch]
%endif
        mov word [scratch + 4], ABSENT
        FAULTS 11, ABSENT, jmp far dword [scratch]
        mov word [scratch + 4], TSS_SEL
        FAULTS 13, TSS_SEL, jmp far dword [scratch]
        ; Call gates have 16 bytes.
        mov word [GDT + GATE], far_same_wide - $$
        mov word [GDT + GATE + 2], CODE64
        mov word [GDT + GATE + 4], 0xec00
        mov word [GDT + GATE + 6], 0xf
        mov word [GDT + GATE_BAD + 2], CODE64
        mov word [GDT + GATE_BAD + 4], 0x8c00
        mov ax, DATA0           ; some do this wrong with a null SS
        mov ss, ax
        mov word [scratch + 4], GATE
        xor eax, eax
        call far dword [scratch]
        CHECK_EQUAL eax, 0x600d
        mov word [scratch + 4], GATE_BAD
        FAULTS 13, GATE_BAD, call far dword [scratch]
        ; Compatibility mode and back.
        push CODE64
        push .back
        mov word [scratch + 4], CODE32
        mov dword [scratch], compatible
        mov ax, DATA0
        mov ds, ax
        jmp far dword [scratch]
.back:  CHECK_EQUAL ebx, 0xc0de
        CHECK_EQUAL dword [got_vector], 0x20
        CHECK_EQUAL qword [got_cs], CODE32
        ; IRETQ to the same level pops SS and RSP.
        mov rax, rsp
        push 0                  ; a null SS
        push rax
        push 2
        push CODE64
        push .returned
        iretq
.returned:
        mov bx, ss
        CHECK_EQUAL bx, 0
        CHECK_EQUAL rsp, rax
        ; NT makes IRET a #GP.
        pushfq
        or dword [rsp], 0x4000
        popfq
        FAULTS 13, 0, iretq
        pushfq
        and dword [rsp], ~0x4000
        popfq
        ; LLDT and LTR take 16 bytes.
        mov ax, LDT_SEL
        lldt ax
        sldt bx
        CHECK_EQUAL bx, LDT_SEL
        mov ax, TSS_SEL
        FAULTS 13, TSS_SEL, ltr ax      ; busy

; ---- level 3 ---------------------------------------------------------------------------------------
        RING3 user_privileged, CODE3
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], 0
        CHECK_EQUAL qword [got_cs], CODE3
        CHECK_EQUAL qword [got_ss], DATA3
        CHECK_EQUAL qword [got_rsp], STACK_RING3
        CHECK_EQUAL qword [got_frame], STACK_RING0 - 48
        CHECK_EQUAL qword [handler_ss], 0
%ifndef TCG
        RING3 user_stac, CODE3
        CHECK_EQUAL dword [got_vector], 6
        CHECK_EQUAL qword [got_rip], user_stac
%endif
        RING3 user_gate_dpl, CODE3
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], IDT_ERROR(0x20)
        RING3 user_page, CODE3
        CHECK_EQUAL dword [got_vector], 14
        CHECK_EQUAL dword [got_error], 5
        CHECK_EQUAL qword [got_cr2], 0x82008
        RING3 user_page_write, CODE3
        CHECK_EQUAL dword [got_error], 7
        RING3 0x82000, CODE3
        CHECK_EQUAL dword [got_vector], 14
        CHECK_EQUAL dword [got_error], 0x15
        RING3 user_ist, CODE3
        CHECK_EQUAL dword [got_vector], 3
        ; The call gate goes inward: SS is null, the stack the TSS's.
        mov dword [GDT + GATE], (CODE64 << 16) | ((gate_target - $$) & 0xffff)
        mov word [scratch + 4], GATE
        RING3 user_call_gate, CODE3
        CHECK_EQUAL dword [got_vector], 3
        CHECK_EQUAL qword [got_rip], user_call_gate.end
        CHECK_EQUAL qword [scratch + 16], STACK_RING0 - 32
        CHECK_EQUAL qword [scratch + 24], STACK_RING3
        CHECK_EQUAL qword [scratch + 32], DATA3
        ; SYSCALL and SYSRET.
        mov ecx, 0xc0000080
        rdmsr
        and eax, ~1
        wrmsr
        RING3 user_syscall, CODE3
        CHECK_EQUAL dword [got_vector], 6
        mov ecx, 0xc0000080
        rdmsr
        or eax, 1
        wrmsr
        mov ecx, 0xc0000081
        xor eax, eax
        mov edx, CODE64 | (STAR32 << 16)
        wrmsr
        mov ecx, 0xc0000082
        mov eax, syscall_entry
        xor edx, edx
        wrmsr
        mov ecx, 0xc0000084
        mov eax, 0x400          ; DF
        wrmsr
        RING3 user_syscall, CODE3
        CHECK_EQUAL dword [got_vector], 3
        CHECK_EQUAL qword [got_rip], user_syscall.end
        CHECK_EQUAL qword [got_cs], CODE3
        CHECK_EQUAL qword [got_ss], DATA3
        CHECK_EQUAL qword [scratch + 16], CODE64
        CHECK_EQUAL qword [scratch + 24], CODE64 + 8
        CHECK_EQUAL qword [scratch + 32], user_syscall.next
        test dword [scratch + 40], 0x400        ; R11 has DF, the kernel's flags have not
        CHECK nz
        test dword [scratch + 48], 0x400
        CHECK z
        test dword [got_rflags], 0x400
        CHECK nz
        ; 32-bit programs.
        RING3 user32, CODE32_3
        CHECK_EQUAL dword [got_vector], 3
        CHECK_EQUAL qword [got_cs], CODE32_3
        CHECK_EQUAL qword [got_rip], user32.end
        CHECK_EQUAL dword [scratch + 16], 0x3232

; ---- the same code in other modes ------------------------------------------------------------------
        ; What level 0 has called may not carry its rights to level 3.
        mov ecx, 4
        mov eax, supervisor_read
.probe: call rax
        dec ecx
        jnz .probe
        RING3 user_probe, CODE3
        CHECK_EQUAL dword [got_vector], 14
        CHECK_EQUAL dword [got_error], 5
        CHECK_EQUAL qword [got_rip], supervisor_read
        ; A vector unit that is switched off between two runs of the same code.
        mov rax, cr4
        or eax, 0x200
        mov cr4, rax
        clts
        RING3 user_vector, CODE3
        CHECK_EQUAL dword [got_vector], 3
        mov rax, cr0
        or eax, 8
        mov cr0, rax
        RING3 user_vector, CODE3
        CHECK_EQUAL dword [got_vector], 7
        CHECK_EQUAL qword [got_rip], vector_function
        clts

; ---- faults on the way to a handler ----------------------------------------------------------------
        ; A stack that cannot be pushed to: #SS, and for that #SS again, makes #DF on IST 2.
        mov dword [resume], .doubled
        mov [resume_rsp], rsp
        mov rsp, 0x0000800000000000
        ud2
.doubled:
        CHECK_EQUAL dword [got_vector], 8
        CHECK_EQUAL dword [got_error], 0
        CHECK_EQUAL qword [got_frame], STACK_DOUBLE - 48
        ; The same by page faults: CR2 is that of the push.
        mov dword [resume], .doubled_again
        mov [resume_rsp], rsp
        mov esp, 0x80800
        ud2
.doubled_again:
        CHECK_EQUAL dword [got_vector], 8
        CHECK_EQUAL qword [got_cr2], 0x807f8
        ; #GP while the gate of the exception is wrong: serial for #UD, #DF for #NP.
        mov word [IDT + 6 * 16 + 2], BEYOND
        mov dword [resume], .serial
        mov [resume_rsp], rsp
        ud2
.serial:
        CHECK_EQUAL dword [got_vector], 13
%ifndef TCG
        CHECK_EQUAL dword [got_error], BEYOND | 1       ; EXT
%endif
        mov word [IDT + 6 * 16 + 2], CODE64
        xor eax, eax
        REPORT_EAX

; ---- helpers ---------------------------------------------------------------------------------------
gdt_pointer32:
        dw gdt_end - gdt_image - 1
        dd GDT
idt_pointer:
        dw STUB_COUNT * 16 - 1
        dq IDT

far_same:
        mov eax, 0x600d
        retf
far_same_wide:                  ; gates push 64 bits each
        mov eax, 0x600d
        o64 retf

gate_target:
        mov [scratch + 16], rsp
        mov rax, [rsp + 16]
        mov [scratch + 24], rax
        mov rax, [rsp + 24]
        mov [scratch + 32], rax
        o64 retf

syscall_entry:
        mov ax, cs
        movzx eax, ax
        mov [scratch + 16], rax
        mov ax, ss
        movzx eax, ax
        mov [scratch + 24], rax
        mov [scratch + 32], rcx
        mov [scratch + 40], r11
        mov rax, rsp
        mov esp, STACK_RING0
        pushfq
        pop qword [scratch + 48]
        mov rsp, rax
        o64 sysret

STUB_BYTES equ 16
STUB_COUNT equ 0x28
        align STUB_BYTES
stubs:
%assign vector 0
%rep STUB_COUNT
        align STUB_BYTES
%if vector != 8 && (vector < 10 || vector > 14) && vector != 17
        push 0
%endif
        push vector
        jmp near handler
%assign vector vector + 1
%endrep
        align STUB_BYTES

handler:
        mov [scratch + 256], rax
        mov ax, ss
        movzx eax, ax
        mov [handler_ss], rax
        pop qword [got_vector]
        mov [got_frame], rsp
        pop qword [got_error]
        mov rax, [rsp]
        mov [got_rip], rax
        mov rax, [rsp + 8]
        mov [got_cs], rax
        mov rax, [rsp + 16]
        mov [got_rflags], rax
        mov rax, [rsp + 24]
        mov [got_rsp], rax
        mov rax, [rsp + 32]
        mov [got_ss], rax
        cmp dword [got_vector], 0x20
        jne .exception
        mov rax, [scratch + 256]
        iretq
.exception:
        mov rax, cr2
        mov [got_cr2], rax
        mov eax, [got_vector]
        cmp eax, 31
        ja .no_error
        bt dword [error_vectors], eax
        jc .frame
.no_error:
        add qword [got_frame], 8
.frame: xor eax, eax
        mov ds, ax
        mov rsp, [resume_rsp]
        mov rax, [scratch + 256]
        jmp [resume]
error_vectors:
        dd 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17

; ---- programs of level 3 ---------------------------------------------------------------------------
user_privileged:
        cli
        nop
user_stac:
        db 0x0f, 0x01, 0xcb      ; STAC
        int3
user_gate_dpl:
        int 0x20
user_page:
        mov al, [0x82008]
user_page_write:
        mov [0x82008], al
user_ist:
        int3
user_probe:
        mov eax, supervisor_read
        call rax
        int3
user_vector:
        mov ecx, 4
        mov eax, vector_function
.more:  call rax
        dec ecx
        jnz .more
        int3
supervisor_read:
        mov bl, [0x82008]
        ret
vector_function:
        movaps xmm0, xmm1
        ret
user_call_gate:
        call far dword [scratch]
        int3
.end:
user_syscall:
        std
        syscall
.next:  int3
.end:

; ---- 32-bit code -----------------------------------------------------------------------------------
        bits 32
compatible:
        int 0x20                ; through a 64-bit gate and back
        mov ebx, 0xc0de
        ; Here RETF pops 32 bits each: the two values that 64-bit code pushed take 16 bytes.
        mov eax, [esp]
        mov ecx, [esp + 8]
        add esp, 16
        push ecx
        push eax
        retf
user32:
        mov ax, DATA3
        mov ds, ax
        mov dword [scratch + 16], 0x3232
        int3
.end:

        times 0xfff0 - ($ - $$) db 0xf4
        bits 16
        jmp 0xf000:REAL(start)
        times 0x10000 - ($ - $$) db 0

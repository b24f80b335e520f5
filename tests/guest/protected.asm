; tests/guest/protected.asm - real, 32-bit protected and virtual-8086 mode: segments, gates, tasks,
; events and their error codes. A 64 KiB ROM that starts at the reset vector; see report.inc.
;
; Spec   Intel SDM vol. 3A chapters 3, 5, 6, 7 and 20.
; Defining TCG leaves out what QEMU's translator does not do: segment limits, RF in frames,
; general detect of reads, reserved bits of control registers.
; What a check expects is what the manual says; run it under another implementation to compare.

        cpu x64
        org 0xf0000
%include "report.inc"

; ---- memory ----------------------------------------------------------------------------------------
VARIABLES equ 0x10000
GDT equ 0x11000
IDT equ 0x12000
TSS_MAIN equ 0x13000
TSS_OTHER equ 0x13100
TSS_DOUBLE equ 0x13200
TSS_16 equ 0x13300
LDT equ 0x13400
PAGE_DIRECTORY equ 0x14000
PAGE_TABLE equ 0x15000
STACK_MAIN equ 0x20000
STACK_RING0 equ 0x24000
STACK_RING3 equ 0x28000
STACK_DOUBLE equ 0x2c000
STACK_OTHER equ 0x2e000
V86_BASE equ 0x30000            ; segment 0x3000
BITMAP_BYTES equ 0x80

resume equ VARIABLES + 0        ; where a handler goes on
resume_esp equ VARIABLES + 4
got_vector equ VARIABLES + 8
got_error equ VARIABLES + 12
got_eip equ VARIABLES + 16
got_cs equ VARIABLES + 20
got_eflags equ VARIABLES + 24
got_esp equ VARIABLES + 28      ; of an outer level
got_ss equ VARIABLES + 32
got_cr2 equ VARIABLES + 36
got_frame equ VARIABLES + 40    ; ESP after the frame was pushed
got_handler_eflags equ VARIABLES + 44
scratch equ VARIABLES + 64
NO_VECTOR equ 0xffffffff

; ---- selectors -------------------------------------------------------------------------------------
%define TOP(label) (label - $$ + 0xffff0000)        ; where the ROM is as well
%define SELECTOR(name) (name - gdt_image)

gdt_image:
        dq 0
code0:  dq 0x00cf9a000000ffff
data0:  dq 0x00cf92000000ffff
code3:  dq 0x00cffa000000ffff
data3:  dq 0x00cff2000000ffff
tss_main: dq 0x0000890130000067
tss_other: dq 0x0000890131000067
tss_double: dq 0x0000890132000067
tss_16: dq 0x000081013300002b
ldt:    dq 0x000082013400001f
code16: dq 0x00009a0f0000ffff
data16: dq 0x000092000000ffff
absent: dq 0x00cf12000000ffff
small:  dq 0x00409200000000ff   ; limit 0xff
down:   dq 0x0040960000000fff   ; expand-down: 0x1000 and up
readonly: dq 0x00cf90000000ffff
execute: dq 0x00cf98000000ffff  ; code without read
conform: dq 0x00cf9e000000ffff
gate0:  dq 0                    ; call gate to level 0 with two parameters, DPL 3
gate_same: dq 0                 ; call gate of level 0
gate_absent: dq 0
task_gate: dq 0x0000e50000000000 | (SELECTOR(tss_other) << 16)
tss_bad: dq 0x0000890131000010  ; limit too small
absent_code: dq 0x00cf1a000000ffff
based:  dq 0x00cf92010000ffff   ; begins at VARIABLES
gdt_end:

CODE0 equ SELECTOR(code0)
DATA0 equ SELECTOR(data0)
CODE3 equ SELECTOR(code3) | 3
DATA3 equ SELECTOR(data3) | 3
TSS_MAIN_SEL equ SELECTOR(tss_main)
TSS_OTHER_SEL equ SELECTOR(tss_other)
TSS_DOUBLE_SEL equ SELECTOR(tss_double)
TSS_16_SEL equ SELECTOR(tss_16)
LDT_SEL equ SELECTOR(ldt)
CODE16 equ SELECTOR(code16)
DATA16 equ SELECTOR(data16)
ABSENT equ SELECTOR(absent)
SMALL equ SELECTOR(small)
DOWN equ SELECTOR(down)
READONLY equ SELECTOR(readonly)
EXECUTE equ SELECTOR(execute)
CONFORM equ SELECTOR(conform)
GATE0 equ SELECTOR(gate0)
GATE_SAME equ SELECTOR(gate_same)
GATE_ABSENT equ SELECTOR(gate_absent)
TASK_GATE equ SELECTOR(task_gate)
TSS_BAD equ SELECTOR(tss_bad)
ABSENT_CODE equ SELECTOR(absent_code)
BASED equ SELECTOR(based)
BEYOND equ gdt_end - gdt_image

; FAULTS vector, error, instruction: the instruction raises just this. Error is 0 where there is none.
%macro FAULTS 3+
        mov dword [resume], %%after
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
%%at:   %3
%%after:
        CHECK_EQUAL dword [got_vector], %1
        CHECK_EQUAL dword [got_error], %2
        CHECK_EQUAL dword [got_eip], %%at
%endmacro

; TRAPS vector, instruction: the same, but the return address is the following instruction's.
%macro TRAPS 2+
        mov dword [resume], %%after
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        %2
%%after:
        CHECK_EQUAL dword [got_vector], %1
        CHECK_EQUAL dword [got_error], 0
        CHECK_EQUAL dword [got_eip], %%after
%endmacro

; RING3 label: runs the code at LABEL at level 3 until an exception, whose handler comes back here.
%macro RING3 1
        mov dword [resume], %%after
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        push DATA3
        push STACK_RING3
        push dword 0x3002       ; IOPL 3
        push CODE3
        push dword %1
        iret
%%after:
%endmacro

; ---- real mode -------------------------------------------------------------------------------------
        bits 16
%define REAL(label) ((label - $$))
%define FAILURE report_failure16

start:
        cli
        cld
        xor ax, ax
        mov ss, ax
        mov sp, 0x7000
        mov ds, ax
        mov es, ax

        ; INT n through the interrupt table: flags, CS and IP are pushed, IF and TF cleared.
        mov word [0x40 * 4], REAL(real_handler)
        mov word [0x40 * 4 + 2], 0xf000
        sti
        pushf
        pop bx
        int 0x40
real_after:
        CHECK_EQUAL cx, REAL(real_after)
        CHECK_EQUAL dx, 0xf000
        CHECK_EQUAL si, bx
        test di, 0x200
        CHECK z
        pushf
        pop ax
        test ax, 0x200
        CHECK nz
        CHECK_EQUAL sp, 0x7000
        cli

        ; A fault returns to the instruction itself and pushes no error code.
        mov word [6 * 4], REAL(real_undefined)
        mov word [6 * 4 + 2], 0xf000
        xor cx, cx
real_ud:
        ud2
        CHECK_EQUAL cx, REAL(real_ud)

%ifndef TCG
        ; A selector beyond the limit of 64 KiB is #GP in real mode as well: vector 13.
        mov word [13 * 4], REAL(real_limit)
        mov word [13 * 4 + 2], 0xf000
        xor cx, cx
        mov bx, 0xffff
real_gp:
        mov ax, [bx]
        CHECK_EQUAL cx, REAL(real_gp)
        CHECK_EQUAL sp, 0x7000

        ; SS: the same beyond the limit is vector 12.
        mov word [12 * 4], REAL(real_limit)
        mov word [12 * 4 + 2], 0xf000
        xor cx, cx
        mov bp, 0xffff
real_ss:
        mov ax, [bp]
        CHECK_EQUAL cx, REAL(real_ss)

%endif
        ; Far CALL and RETF, far pointer loads.
        call 0xf000:REAL(real_far)
        CHECK_EQUAL ax, 0x1234
        CHECK_EQUAL sp, 0x7000
        mov word [0x500], 0x5678
        mov word [0x502], 0x4321
        les di, [0x500]
        mov ax, es
        CHECK_EQUAL ax, 0x4321
        CHECK_EQUAL di, 0x5678
        xor ax, ax
        mov es, ax

        ; Protected-mode-only instructions do not exist here.
        xor cx, cx
real_sldt:
        sldt ax
        CHECK_EQUAL cx, REAL(real_sldt)

        ; To protected mode.
        o32 lgdt [cs:REAL(gdt_pointer_rom)]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword CODE0:protected

real_handler:
        mov bp, sp
        mov cx, [bp]
        mov dx, [bp + 2]
        mov si, [bp + 4]
        pushf
        pop di
        iret

real_undefined:
        mov bp, sp
        mov cx, [bp]
        add word [bp], 2
        cmp word [bp], REAL(real_sldt) + 2
        jne .done
        inc word [bp]           ; SLDT AX has three bytes
.done:  iret

real_limit:
        mov bp, sp
        mov cx, [bp]
        add word [bp], 2
%ifndef TCG
        cmp cx, REAL(real_ss)
        jne .done
        inc word [bp]           ; [BP] has a displacement
%endif
.done:  iret

real_far:
        mov ax, 0x1234
        retf

gdt_pointer_rom:
        dw gdt_end - gdt_image - 1
        dd gdt_image

; ---- protected mode: setting up --------------------------------------------------------------------
report_failure16:
        REPORT_EAX

        bits 32
%define FAILURE report_failure
report_failure:
        mov edx, DATA0
        mov ds, dx
        push eax
        mov ecx, 8
.digit: rol eax, 4
        push eax
        and al, 15
        add al, '0'
        cmp al, '9'
        jbe .put
        add al, 'a' - '9' - 1
.put:   out TEXT_PORT, al
        pop eax
        loop .digit
        pop eax
        REPORT_EAX

protected:
        mov ax, DATA0
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov esp, STACK_MAIN

        ; The tables to RAM, where accessed and busy bits can be set.
        mov esi, gdt_image
        mov edi, GDT
        mov ecx, (gdt_end - gdt_image) / 4
        rep movsd
        lgdt [gdt_pointer]

        mov edi, IDT
        mov esi, stubs
        mov ecx, 0
.gate:  mov eax, esi
        mov ax, ax
        mov [edi], ax
        mov word [edi + 2], CODE0
        mov word [edi + 4], 0x8e00
        shr eax, 16
        mov [edi + 6], ax
        add edi, 8
        add esi, STUB_BYTES
        inc ecx
        cmp ecx, STUB_COUNT
        jb .gate
        mov word [IDT + 3 * 8 + 4], 0xee00      ; INT3 and INTO from level 3
        mov word [IDT + 4 * 8 + 4], 0xee00
        mov word [IDT + 0x21 * 8 + 4], 0xef00   ; a trap gate from level 3
        mov word [IDT + 0x22 * 8 + 4], 0x0e00   ; not present
        mov word [IDT + 0x23 * 8 + 4], 0x8c00   ; a call gate, of all things
        mov word [IDT + 0x24 * 8 + 2], DATA0    ; not code
        mov word [IDT + 0x25 * 8 + 2], ABSENT_CODE
        mov word [IDT + 0x26 * 8 + 2], 0        ; null
        mov word [IDT + 0x27 * 8 + 2], BEYOND
        lidt [idt_pointer]

        mov dword [TSS_MAIN + 4], STACK_RING0
        mov dword [TSS_MAIN + 8], DATA0
        mov word [TSS_MAIN + 102], BITMAP_BYTES
        mov ax, TSS_MAIN_SEL
        ltr ax

; ---- segment loads ---------------------------------------------------------------------------------
        ; LTR has set the busy bit; the accessed bit comes with the first load.
        CHECK_EQUAL byte [GDT + TSS_MAIN_SEL + 5], 0x8b
        CHECK_EQUAL byte [GDT + SMALL + 5], 0x92
        mov ax, SMALL
        mov es, ax
        CHECK_EQUAL byte [GDT + SMALL + 5], 0x93

        mov ax, BEYOND
        FAULTS 13, BEYOND, mov es, ax
        mov ax, LDT_SEL
        FAULTS 13, LDT_SEL, mov es, ax
        mov ax, EXECUTE
        FAULTS 13, EXECUTE, mov es, ax
        mov ax, ABSENT
        FAULTS 11, ABSENT, mov es, ax
        mov ax, ABSENT
        FAULTS 12, ABSENT, mov ss, ax
        xor eax, eax
        FAULTS 13, 0, mov ss, ax
        mov ax, READONLY
        FAULTS 13, READONLY, mov ss, ax
        mov ax, DATA3
        FAULTS 13, DATA3 & ~3, mov ss, ax
        mov ax, DATA0 | 3
        FAULTS 13, DATA0, mov ss, ax
        mov ax, 4 | 8           ; the LDT is not loaded
        FAULTS 13, 12, mov es, ax
        mov ax, SMALL
        mov es, ax
        CHECK_EQUAL ax, SMALL

        ; Limits and kinds.
        mov al, [es:0xff]
%ifndef TCG
        FAULTS 13, 0, mov al, [es:0x100]
        FAULTS 13, 0, mov eax, [es:0xfd]
%endif
        mov ax, DOWN
        mov es, ax
        mov al, [es:0x1000]
%ifndef TCG
        FAULTS 13, 0, mov al, [es:0xfff]
        FAULTS 13, 0, mov eax, [es:0xfff]
%endif
        mov ax, READONLY
        mov es, ax
        mov al, [es:0x1000]
%ifndef TCG
        FAULTS 13, 0, mov [es:0x1000], al
        FAULTS 13, 0, mov [cs:0x1000], al
        xor eax, eax
        mov es, ax
        FAULTS 13, 0, mov al, [es:0x1000]
%endif
        mov ax, DATA0
        mov es, ax
%ifndef TCG
        mov ax, SMALL
        mov ss, ax
        mov esp, 0x100
        push eax
        pop eax
        mov esp, 0xfe
        mov dword [resume], .stack_limit
        mov dword [resume_esp], STACK_MAIN
        mov dword [got_vector], NO_VECTOR
        mov eax, [esp]          ; the handler's frame still fits below
.stack_limit:
        CHECK_EQUAL dword [got_vector], 12
        CHECK_EQUAL dword [got_error], 0

%endif
        ; LDT.
        mov ax, LDT_SEL
        lldt ax
        mov dword [LDT + 8], 0x0000ffff
        mov dword [LDT + 12], 0x00cf9200
        mov ax, 4 | 8
        mov es, ax
        mov al, [es:0x1000]
        mov ax, 4 | 0x20
        FAULTS 13, 0x24, mov es, ax
        mov ax, DATA0
        mov es, ax
        mov ax, DATA0
        FAULTS 13, DATA0, lldt ax
        mov ax, 4 | 8
        FAULTS 13, 12, lldt ax
        xor eax, eax
        lldt ax
        mov ax, 4 | 8
        FAULTS 13, 12, mov es, ax

        ; LAR, LSL, VERR, VERW, ARPL.
        mov ax, SMALL
        lsl ecx, ax
        CHECK z
        CHECK_EQUAL ecx, 0xff
        mov ax, CODE0
        lsl ecx, ax
        CHECK_EQUAL ecx, 0xffffffff
        lar ecx, ax
        CHECK z
        and ecx, 0xfe00         ; not the accessed bit
        CHECK_EQUAL ecx, 0x9a00
        mov ax, BEYOND
        lar ecx, ax
        CHECK nz
        mov ax, GATE0
        lsl ecx, ax
        CHECK nz
        mov ax, TASK_GATE
        lar ecx, ax
        CHECK z
        mov ax, EXECUTE
        verr ax
        CHECK nz
        mov ax, READONLY
        verr ax
        CHECK z
        verw ax
        CHECK nz
        mov ax, DATA0
        verw ax
        CHECK z
        mov ax, DATA0 | 3
        verw ax
        CHECK nz
        mov eax, 0x1000
        mov ecx, 3
        arpl ax, cx
        CHECK z
        CHECK_EQUAL eax, 0x1003
        arpl ax, cx
        CHECK nz

; ---- exceptions and interrupts at the same level ---------------------------------------------------
        FAULTS 6, 0, ud2
        TRAPS 3, int3
        TRAPS 0x20, int 0x20
        FAULTS 11, 0x22 * 8 + 2, int 0x22
        FAULTS 13, 0x23 * 8 + 2, int 0x23
        FAULTS 13, DATA0, int 0x24
        FAULTS 11, ABSENT_CODE, int 0x25
        FAULTS 13, 0, int 0x26
        FAULTS 13, BEYOND, int 0x27
        FAULTS 13, 0xff * 8 + 2, int 0xff
        mov dword [scratch], 1
        mov dword [scratch + 4], 5
        mov eax, 6
        FAULTS 5, 0, bound eax, [scratch]
        mov eax, 5
        bound eax, [scratch]
        mov eax, 0x7fffffff
        inc eax
        TRAPS 4, into
        xor eax, eax
        into

        ; An interrupt gate clears IF and TF, a trap gate leaves IF.
        sti
        int 0x20
        test dword [got_handler_eflags], 0x200
        CHECK z
        test dword [got_eflags], 0x200
        CHECK nz
        mov dword [resume], .trap_gate
        mov [resume_esp], esp
        sti
        int 0x21
.trap_gate:
        test dword [got_handler_eflags], 0x200
        CHECK nz
        cli

        ; Faults push RF set, software interrupts clear.
        FAULTS 6, 0, ud2
%ifndef TCG
        test dword [got_eflags], 0x10000
        CHECK nz
%endif
        TRAPS 0x20, int 0x20
        test dword [got_eflags], 0x10000
        CHECK z

        ; Single step: the trap comes after the instruction that follows POPF.
        mov dword [resume], .stepped
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        xor eax, eax
        mov dr6, eax
        pushfd
        or dword [esp], 0x100
        popfd
        nop
.step:  nop
.stepped:
        CHECK_EQUAL dword [got_vector], 1
        CHECK_EQUAL dword [got_eip], .step
        mov eax, dr6
        and eax, 0xe00f
        CHECK_EQUAL eax, 0x4000
        mov esp, STACK_MAIN
        push dword 2
        popfd

        ; Data and instruction breakpoints.
        mov eax, scratch
        mov dr0, eax
        mov eax, .break_here
        mov dr1, eax
        xor eax, eax
        mov dr6, eax
        mov eax, 0x000d0005     ; DR0: 4 bytes, writes; DR1: execution
        mov dr7, eax
        TRAPS 1, mov [scratch], eax
        mov eax, dr6
        and eax, 0xe00f
        CHECK_EQUAL eax, 1
        mov dword [resume], .broken
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        xor ecx, ecx
.break_here:
        inc ecx
        inc ecx
.broken:
        CHECK_EQUAL dword [got_vector], 1
        CHECK_EQUAL dword [got_eip], .break_here
        CHECK_EQUAL ecx, 0
        mov eax, dr6
        and eax, 0xe00f
        CHECK_EQUAL eax, 2
%ifndef TCG
        ; General detect.
        mov eax, 0x2400
        mov dr7, eax
        FAULTS 1, 0, mov eax, dr0
        mov eax, dr6
        and eax, 0x2000
        CHECK nz
%endif
        xor eax, eax
        mov dr7, eax
        mov dr6, eax

; ---- far transfers at the same level ---------------------------------------------------------------
        call CODE0:far_same
        CHECK_EQUAL eax, 0x600d
        FAULTS 13, 0, jmp 0:0x1000
        FAULTS 13, BEYOND, jmp BEYOND:0x1000
        FAULTS 13, DATA0, jmp DATA0:0x1000
        FAULTS 11, ABSENT_CODE, jmp ABSENT_CODE:0x1000
        FAULTS 13, CODE3 & ~3, call CODE3:0x1000
        FAULTS 13, LDT_SEL, jmp LDT_SEL:0
        call CONFORM:far_same
        CHECK_EQUAL eax, 0x600d

        ; Call gates.
        mov word [GDT + GATE0], gate_target - $$
        mov word [GDT + GATE0 + 2], CODE0
        mov word [GDT + GATE0 + 4], 0xec02
        mov word [GDT + GATE0 + 6], 0xf
        mov word [GDT + GATE_SAME], far_same - $$
        mov word [GDT + GATE_SAME + 2], CODE0
        mov word [GDT + GATE_SAME + 4], 0x8c00
        mov word [GDT + GATE_SAME + 6], 0xf
        mov word [GDT + GATE_ABSENT + 2], CODE0
        mov word [GDT + GATE_ABSENT + 4], 0x0c00
        xor eax, eax
        call GATE_SAME:0
        CHECK_EQUAL eax, 0x600d
        FAULTS 11, GATE_ABSENT, call GATE_ABSENT:0

        ; 16-bit code and back.
        call CODE16:far16 - $$
        CHECK_EQUAL ebx, 0x1616

; ---- level 3 ---------------------------------------------------------------------------------------
        RING3 user_privileged
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], 0
        CHECK_EQUAL dword [got_eip], user_privileged
        CHECK_EQUAL dword [got_cs], CODE3
        CHECK_EQUAL dword [got_ss], DATA3
        CHECK_EQUAL dword [got_esp], STACK_RING3
        CHECK_EQUAL dword [got_frame], STACK_RING0 - 24
        mov ax, ds              ; level 3 cannot keep a segment of level 0
        CHECK_EQUAL ax, DATA0   ; (the handler has loaded it again)
        RING3 user_segments
        CHECK_EQUAL dword [got_vector], 3
        CHECK_EQUAL dword [scratch], 0
        RING3 user_gate_dpl
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], 0x20 * 8 + 2
        RING3 user_int3
        CHECK_EQUAL dword [got_vector], 3
        CHECK_EQUAL dword [got_eip], user_int3 + 1
        RING3 user_gate
        CHECK_EQUAL dword [got_vector], 3
        CHECK_EQUAL dword [scratch], 0x22221111
        CHECK_EQUAL dword [scratch + 4], STACK_RING3 - 8
        CHECK_EQUAL dword [scratch + 8], CODE3
        RING3 user_gate_dpl0
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], GATE_SAME
        RING3 user_load
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], DATA0

        ; Ports: the bitmap of the TSS. IOPL 0 here.
        mov dword [TSS_MAIN + BITMAP_BYTES], 0xfffffffe
        mov dword [TSS_MAIN + BITMAP_BYTES + 4], 0xffffffff
        mov byte [GDT + TSS_MAIN_SEL], 0x90
        mov byte [GDT + TSS_MAIN_SEL + 5], 0x89
        mov ax, TSS_MAIN_SEL
        ltr ax
        mov dword [resume], .ports
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        push DATA3
        push STACK_RING3
        push dword 2
        push CODE3
        push dword user_ports
        iret
.ports: CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_eip], user_ports.second
        mov byte [GDT + TSS_MAIN_SEL], 0x67
        mov byte [GDT + TSS_MAIN_SEL + 5], 0x89
        mov ax, TSS_MAIN_SEL
        ltr ax

        ; A bad inner stack is #TS.
        mov dword [TSS_MAIN + 8], DATA3
        mov word [IDT + 10 * 8 + 4], 0x8500     ; by a task, as it needs a stack
        mov word [IDT + 10 * 8 + 2], TSS_DOUBLE_SEL
        call set_double
        RING3 user_int3
        CHECK_EQUAL dword [got_vector], 10
        CHECK_EQUAL dword [got_error], DATA3 & ~3
        mov dword [TSS_MAIN + 8], DATA0
        mov word [IDT + 10 * 8 + 2], CODE0
        mov word [IDT + 10 * 8 + 4], 0x8e00
        mov ax, TSS_MAIN_SEL
        mov byte [GDT + TSS_MAIN_SEL + 5], 0x89
        ltr ax

; ---- IRET checks -----------------------------------------------------------------------------------
        push dword 2
        push dword 0
        push dword .nowhere
        FAULTS 13, 0, iret
        add esp, 12
        push dword 2
        push dword DATA0
        push dword .nowhere
        FAULTS 13, DATA0, iret
        add esp, 12
        push dword DATA0        ; SS of the wrong level
        push dword 0
        push dword 2
        push dword CODE3
        push dword .nowhere
        FAULTS 13, DATA0, iret
        add esp, 20
.nowhere:

; ---- tasks -----------------------------------------------------------------------------------------
        mov dword [TSS_OTHER + 4], STACK_RING0
        mov dword [TSS_OTHER + 8], DATA0
        mov dword [TSS_OTHER + 32], task_body
        mov dword [TSS_OTHER + 36], 2
        mov dword [TSS_OTHER + 56], STACK_OTHER
        mov dword [TSS_OTHER + 72], DATA0
        mov dword [TSS_OTHER + 76], CODE0
        mov dword [TSS_OTHER + 80], DATA0
        mov dword [TSS_OTHER + 84], DATA0
        mov dword [TSS_OTHER + 88], DATA3
        mov dword [TSS_OTHER + 92], 0
        mov dword [TSS_OTHER + 96], 0
        mov ebx, 0xb0b0
        clts
        call TSS_OTHER_SEL:0
        CHECK_EQUAL ebx, 0xb0b0
        CHECK_EQUAL dword [scratch], 0x7a5c
        CHECK_EQUAL word [scratch + 4], TSS_OTHER_SEL
        CHECK_EQUAL word [TSS_OTHER], TSS_MAIN_SEL
        CHECK_EQUAL byte [GDT + TSS_OTHER_SEL + 5], 0x89
        CHECK_EQUAL byte [GDT + TSS_MAIN_SEL + 5], 0x8b
        test dword [scratch + 8], 0x4000        ; NT in the nested task
        CHECK nz
        mov eax, cr0
        test eax, 8
        CHECK nz
        str ax
        CHECK_EQUAL ax, TSS_MAIN_SEL
        ; Again, by the gate, from where it stopped.
        call TASK_GATE:0
        CHECK_EQUAL dword [scratch], 0x7a5d
        clts
        FAULTS 13, TSS_MAIN_SEL, jmp TSS_MAIN_SEL:0     ; busy
        FAULTS 10, TSS_BAD, jmp TSS_BAD:0
        ; 16-bit TSS: only low words are kept and loaded.
        mov word [TSS_16 + 2], STACK_RING0 & 0xffff
        mov word [TSS_16 + 4], DATA0
        mov word [TSS_16 + 14], task16 - $$
        mov word [TSS_16 + 16], 2
        mov word [TSS_16 + 26], 0x8000
        mov word [TSS_16 + 34], DATA16
        mov word [TSS_16 + 36], CODE16
        mov word [TSS_16 + 38], DATA16
        mov word [TSS_16 + 40], DATA0
        mov word [TSS_16 + 42], 0
        mov ebp, 0xb1b2b3b4
        call TSS_16_SEL:0
        CHECK_EQUAL ebp, 0xb1b2b3b4
        CHECK_EQUAL word [scratch], 0x1620
        CHECK_EQUAL esp, STACK_MAIN

; ---- double fault, by a task gate ------------------------------------------------------------------
        mov word [IDT + 8 * 8 + 2], TSS_DOUBLE_SEL
        mov word [IDT + 8 * 8 + 4], 0x8500
        mov word [IDT + 13 * 8 + 4], 0x0e00     ; #GP's gate is not present: #NP on the way
        call set_double
        mov dword [resume], .doubled
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        mov ax, BEYOND
        mov es, ax
.doubled:
        CHECK_EQUAL dword [got_vector], 10      ; the label that set_double gives its task
        CHECK_EQUAL dword [got_error], 0
        mov word [IDT + 13 * 8 + 4], 0x8e00
        mov byte [GDT + TSS_MAIN_SEL + 5], 0x89
        mov ax, TSS_MAIN_SEL
        ltr ax

; ---- paging: error codes of #PF --------------------------------------------------------------------
        mov edi, PAGE_TABLE
        mov eax, 7
.entry: mov [edi], eax
        add edi, 4
        add eax, 0x1000
        cmp edi, PAGE_TABLE + 0x1000
        jb .entry
        mov dword [PAGE_DIRECTORY], PAGE_TABLE | 7
        mov dword [PAGE_TABLE + 0x80 * 4], 0            ; not present
        mov dword [PAGE_TABLE + 0x81 * 4], 0x81005      ; read only
        mov dword [PAGE_TABLE + 0x82 * 4], 0x82003      ; supervisor
        mov eax, PAGE_DIRECTORY
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80010000      ; PG, WP
        mov cr0, eax
        FAULTS 14, 0, mov eax, [0x80123]
        CHECK_EQUAL dword [got_cr2], 0x80123
        FAULTS 14, 2, mov [0x80123], eax
        FAULTS 14, 3, mov [0x81124], eax
        CHECK_EQUAL dword [got_cr2], 0x81124
        mov eax, [0x81124]
        RING3 user_page
        CHECK_EQUAL dword [got_vector], 14
        CHECK_EQUAL dword [got_error], 7
        CHECK_EQUAL dword [got_cr2], 0x82010
        mov eax, cr0
        and eax, 0x7ffeffff
        mov cr0, eax

; ---- virtual-8086 mode -----------------------------------------------------------------------------
        mov ax, DATA0           ; returns to level 3 have taken it away
        mov es, ax
        mov esi, v86_code
        mov edi, V86_BASE
        mov ecx, v86_end - v86_code
        rep movsb
        mov dword [resume], .v86
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        push dword 0x3000       ; GS
        push dword 0x3000       ; FS
        push dword 0x3000       ; DS
        push dword 0x3000       ; ES
        push dword 0x3000       ; SS
        push dword 0x8000       ; SP
        push dword 0x23002      ; VM, IOPL 3
        push dword 0x3000
        push dword 0
        iret
.v86:   CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], 0x20 * 8 + 2     ; INT 20: the gate's DPL is 0
        CHECK_EQUAL dword [got_cs], 0x3000
        CHECK_EQUAL dword [got_eip], v86_int - v86_code
        CHECK_EQUAL dword [got_ss], 0x3000
        CHECK_EQUAL dword [got_esp], 0x8000
        CHECK_EQUAL dword [got_frame], STACK_RING0 - 40
        CHECK_EQUAL dword [STACK_RING0 - 4], 0x3000     ; GS above it all
        test dword [got_eflags], 0x20000
        CHECK nz
        CHECK_EQUAL word [V86_BASE + 0x1000], 0x8686
        ; IOPL 0: CLI is #GP(0), and so is INT n.
        mov dword [resume], .v86_low
        mov [resume_esp], esp
        mov dword [got_vector], NO_VECTOR
        push dword 0
        push dword 0
        push dword 0x3000
        push dword 0
        push dword 0x3000
        push dword 0x8000
        push dword 0x20002
        push dword 0x3000
        push dword v86_cli - v86_code
        iret
.v86_low:
        CHECK_EQUAL dword [got_vector], 13
        CHECK_EQUAL dword [got_error], 0
        CHECK_EQUAL dword [got_eip], v86_cli - v86_code
        mov ax, fs              ; the handler found them null
        CHECK_EQUAL ax, 0

; ---- the same code under other segments: no translation may serve for another one -------------------
        mov ax, DATA0           ; virtual-8086 mode has left it null
        mov es, ax
        mov dword [OFFSET], 0x11111111
        mov dword [VARIABLES + OFFSET], 0x22222222
        mov esi, 5
.segments:
        call read_ds
        CHECK_EQUAL eax, 0x11111111
        mov ax, BASED
        mov ds, ax
        call read_ds
        mov bx, DATA0
        mov ds, bx
        CHECK_EQUAL eax, 0x22222222
        mov ax, BASED
        mov gs, ax
        call read_gs
        CHECK_EQUAL eax, 0x22222222
        call read_gs_below      ; the sum wraps
        CHECK_EQUAL eax, 0x11111111
        mov ebx, 0xffff0000
        mov eax, [gs:ebx + OFFSET]
        CHECK_EQUAL eax, 0x11111111
        mov ax, DATA0
        mov gs, ax
        call read_gs
        CHECK_EQUAL eax, 0x11111111
        mov ebx, 0xffffffff
        mov eax, [ebx + OFFSET + 1]
        CHECK_EQUAL eax, 0x11111111

        ; FS with limits and without.
        mov ax, READONLY
        mov fs, ax
        mov eax, [fs:OFFSET]
        CHECK_EQUAL eax, 0x11111111
%ifndef TCG
        FAULTS 13, 0, mov [fs:OFFSET], esi
        mov ax, SMALL
        mov fs, ax
        mov dword [resume], .no_fault
        mov ebx, 0xfc
        call read_fs
        inc ebx
        FAULTS 13, 0, mov eax, [fs:ebx]
        mov ax, 0
        mov fs, ax
        FAULTS 13, 0, mov eax, [fs:OFFSET]
%endif
        mov ax, DATA0
        mov fs, ax
        mov ebx, 0xfd
.no_fault:
        call read_fs
        mov [fs:OFFSET + 4], esi
        CHECK_EQUAL [OFFSET + 4], esi

        ; Stacks: one with a base, then one of 16 bits.
        mov ax, BASED
        mov ss, ax
        mov esp, OFFSET + 0x100
        call push_pop
        mov bx, DATA0
        mov ss, bx
        mov esp, STACK_MAIN
        CHECK_EQUAL eax, 0x1234567
        CHECK_EQUAL dword [VARIABLES + OFFSET + 0xf8], 0x1234567
        mov dword [VARIABLES + OFFSET + 0xf8], 0
        mov ax, DATA16
        mov ss, ax
        mov esp, 0x120000 + OFFSET + 0x100
        call push_pop
        mov edi, esp
        mov bx, DATA0
        mov ss, bx
        mov esp, STACK_MAIN
        CHECK_EQUAL eax, 0x1234567
        CHECK_EQUAL edi, 0x120000 + OFFSET + 0x100
        CHECK_EQUAL dword [OFFSET + 0xf8], 0x1234567
        mov dword [OFFSET + 0xf8], 0

        ; At the other end of the address space, where the ROM is as well.
        mov eax, TOP(tell_eip)
        call eax
        CHECK_EQUAL eax, TOP(told_eip)
        db 0xe8
        dd (tell_eip - .called) - 0xf0000 - 0x10000     ; TOP(tell_eip)
.called:
        CHECK_EQUAL eax, TOP(told_eip)
        call tell_eip
        CHECK_EQUAL eax, told_eip
        dec esi
        jnz .segments

; ---- control registers -----------------------------------------------------------------------------
        mov eax, cr0
        mov ebx, eax
%ifndef TCG
        or eax, 0x80000000
        and eax, ~1
        FAULTS 13, 0, mov cr0, eax      ; PG without PE
        mov eax, ebx
        or eax, 0x20000000
        and eax, ~0x40000000
        FAULTS 13, 0, mov cr0, eax      ; NW without CD
        mov eax, cr4
        or eax, 0x80000000
        FAULTS 13, 0, mov cr4, eax
%endif
        smsw ax
        CHECK_EQUAL ax, bx
        and ax, 0xfffe
        lmsw ax                 ; cannot clear PE
        mov eax, cr0
        test al, 1
        CHECK nz
        mov ecx, 0xc0000080
        rdmsr
        test eax, 0x400
        CHECK z

        ; Back to real mode.
        jmp CODE16:.leave - $$
        bits 16
.leave: mov ax, DATA16
        mov ds, ax
        mov es, ax
        mov ss, ax
        lidt [cs:REAL(idt_real)]
        mov eax, cr0
        and al, 0xfe
        mov cr0, eax
        jmp 0xf000:REAL(.real)
.real:  xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7000
        xor cx, cx
        int 0x40
.end:   cmp cx, REAL(.end)
        jne .bad
        xor eax, eax
        REPORT_EAX
.bad:   mov eax, 0xffff
        REPORT_EAX
idt_real:
        dw 0x3ff
        dd 0

; ---- helpers ---------------------------------------------------------------------------------------
        bits 32
gdt_pointer:
        dw gdt_end - gdt_image - 1
        dd GDT
idt_pointer:
        dw STUB_COUNT * 8 - 1
        dd IDT

OFFSET equ 0x800

read_ds:
        mov eax, [OFFSET]
        ret
read_gs:
        mov eax, [gs:OFFSET]
        ret
read_gs_below:
        mov eax, [gs:OFFSET - VARIABLES]
        ret
read_fs:
        mov eax, [fs:ebx]
        ret
push_pop:
        push dword 0x1234567
        pop eax
        ret
tell_eip:
        call told_eip
told_eip:
        pop eax
        ret

far_same:
        mov eax, 0x600d
        retf

; Called by the gate from level 3 with two parameters, or its RETF drops eight bytes.
gate_target:
        push ds
        mov ax, DATA0
        mov ds, ax
        mov eax, [esp + 12]
        mov [scratch], eax
        mov eax, [esp + 20]
        mov [scratch + 4], eax
        mov eax, [esp + 8]
        mov [scratch + 8], eax
        pop ds
        retf 8

; The task of #TS, #DF and the like: takes the error code, tells, and goes back to the main program.
set_double:
        mov dword [TSS_DOUBLE + 32], double_body
        mov dword [TSS_DOUBLE + 36], 2
        mov dword [TSS_DOUBLE + 56], STACK_DOUBLE
        mov dword [TSS_DOUBLE + 72], DATA0
        mov dword [TSS_DOUBLE + 76], CODE0
        mov dword [TSS_DOUBLE + 80], DATA0
        mov dword [TSS_DOUBLE + 84], DATA0
        mov dword [TSS_DOUBLE + 96], 0
        mov byte [GDT + TSS_DOUBLE_SEL + 5], 0x89
        ret
double_body:
        mov dword [got_vector], 10
        pop dword [got_error]
        pushfd
        and dword [esp], ~0x4000
        popfd
        mov esp, [resume_esp]
        jmp [resume]

task_body:
        mov eax, 0x7a5c
.again: mov [scratch], eax
        str word [scratch + 4]
        pushfd
        pop dword [scratch + 8]
        iret
        mov eax, 0x7a5d
        jmp .again

        bits 16
task16:
        mov word [dword scratch], 0x1620
        o32 iret
        bits 32

; Exceptions and INT 20 to 27: each stub pushes what the processor has not, then its vector.
STUB_BYTES equ 16
STUB_COUNT equ 0x28
        align STUB_BYTES
stubs:
%assign vector 0
%rep STUB_COUNT
        align STUB_BYTES
%if vector != 8 && (vector < 10 || vector > 14) && vector != 17
        push dword 0
%endif
        push dword vector
        jmp near handler
%assign vector vector + 1
%endrep
        align STUB_BYTES

handler:
        push eax
        mov ax, DATA0
        mov ds, ax
        pop dword [scratch + 32]
        pushfd
        pop dword [got_handler_eflags]
        pop dword [got_vector]
        lea eax, [esp]
        mov [got_frame], eax
        pop dword [got_error]
        pop dword [got_eip]
        pop dword [got_cs]
        pop dword [got_eflags]
        cmp dword [got_vector], 0x20
        jb .exception
        test dword [got_cs], 3
        jnz .exception
        ; Interrupts return by themselves.
        push dword [got_eflags]
        push dword [got_cs]
        push dword [got_eip]
        mov eax, [scratch + 32]
        iret
.exception:
        mov eax, [got_eflags]
        test eax, 0x20000
        jnz .outer
        test dword [got_cs], 3
        jz .same
.outer: pop dword [got_esp]
        pop dword [got_ss]
.same:  mov eax, cr2
        mov [got_cr2], eax
        ; The frame's error code: a dummy one counts as not pushed.
        mov eax, [got_vector]
        cmp eax, 31
        ja .no_error
        bt dword [cs:error_vectors], eax
        jc .frame
.no_error:
        add dword [got_frame], 4
.frame: mov ax, DATA0
        mov ss, ax
        mov esp, [resume_esp]
        mov eax, [scratch + 32]
        jmp [resume]
error_vectors:
        dd 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17

; ---- programs of level 3 ---------------------------------------------------------------------------
user_privileged:
        hlt
user_segments:
        ; A data segment of level 0 did not survive the IRET.
        mov ax, ds
        mov bx, DATA3
        mov ds, bx
        movzx eax, ax
        mov [scratch], eax
        int3
user_gate_dpl:
        int 0x20
user_int3:
        int3
user_gate:
        mov ax, DATA3
        mov ds, ax
        push dword 0x33334444
        push dword 0x22221111
        call GATE0:0
        int3
user_gate_dpl0:
        call GATE_SAME:0
user_load:
        mov ax, DATA0
        mov ds, ax
user_ports:
        in al, 0
.second:
        in al, 1
user_page:
        mov ax, DATA3
        mov ds, ax
        mov [0x82010], eax

; ---- 16-bit code -----------------------------------------------------------------------------------
        bits 16
far16:  mov ebx, 0x1616
        o32 retf

v86_code:
        mov word [0x1000], 0x8686
        pushf
        cli
        popf
        push word 0x1234
        pop ax
v86_int:
        int 0x20
v86_cli:
        cli
v86_end:

        times 0xfff0 - ($ - $$) db 0xf4
        jmp 0xf000:REAL(start)
        times 0x10000 - ($ - $$) db 0

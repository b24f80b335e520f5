; tests/guest/screen.asm - a boot sector that shows what a BIOS can do with the screen: text, and at
; the keys 1, 2 and 4 the modes 13h, 12h and 4; any other key is printed.
;
; Mode 13h has the offset's low byte as each pixel's colour. Modes 12h and 4 have a diagonal of all
; their colours.

        bits 16
        org 0x7c00

        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov si, hello
        call print
        mov si, ready                   ; to COM1 as well
        call print_serial

next:   mov ah, 0
        int 0x16                        ; waits for a key
        cmp al, '1'
        je mode_13
        cmp al, '2'
        je mode_12
        cmp al, '4'
        je mode_4
        call print_one
        jmp next

mode_13:
        mov ax, 0x13
        int 0x10
        mov ax, 0xa000
        mov es, ax
        xor di, di
.pixel: mov ax, di
        stosb
        cmp di, 64000
        jne .pixel
        jmp next

mode_12:
        mov ax, 0x12
        int 0x10
        mov bp, 0x0f01                  ; colours, dots of x for one of y
        mov bx, 400
        jmp diagonal

mode_4: mov ax, 4
        int 0x10
        mov bp, 0x0301
        mov bx, 200

; Draws BX dots; the mask of colours is the high half of BP.
diagonal:
        mov cx, 0
.dot:   push bx
        mov dx, cx
        mov ax, bp
        mov al, cl
        and al, ah
        mov ah, 0x0c
        mov bh, 0
        int 0x10
        pop bx
        inc cx
        cmp cx, bx
        jne .dot
        jmp next

print:  lodsb
        test al, al
        jz .done
        call print_one
        jmp print
.done:  ret

print_one:
        mov ah, 0x0e
        mov bx, 7
        int 0x10
        ret

print_serial:
        mov dx, 0x3f8
.byte:  lodsb
        test al, al
        jz .done
        out dx, al
        jmp .byte
.done:  ret

hello:  db 'Hello from the boot sector', 13, 10, 0
ready:  db 10, 'SECTOR READY', 10, 0
        times 510 - ($ - $$) db 0
        dw 0xaa55

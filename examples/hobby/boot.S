/* The first sector of a disk image: brings the kernel, which lies in the SECTORS behind it, to 1 MiB and starts it.
 *
 * The same image boots as an El Torito image without emulation. There the BIOS has loaded all of it, not just this sector.
 */
    .if SECTORS > 127
    .error "the kernel is larger than one INT 13h can read"
    .endif
LOADED = 0x7E00                 /* behind this sector, which is at 7C00h */

#define AT(label) (0x7C00 + label - boot)

    .code16
    .text
boot:
    ljmp $0, $AT(here)          /* some come at 07C0:0000 */
here:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7C00, %sp
    cmpb $0xE0, %dl             /* the drive that was booted from; optical ones count from E0h */
    jae loaded
    movw $AT(packet), %si
    movb $0x42, %ah             /* extended read */
    int $0x13
    jc dead
loaded:
    cli
    inb $0x92, %al              /* address line 20 on */
    orb $2, %al
    outb %al, $0x92
    lgdtl AT(gdt_pointer)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $AT(protected)
dead:
    hlt
    jmp dead

    .code32
protected:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld
    movl $LOADED, %esi
    movl $0x100000, %edi
    movl $SECTORS * 128, %ecx
    rep movsl
    movl $0x100000, %eax
    jmp *%eax

    .align 4
packet:
    .byte 16, 0                 /* its size */
    .word SECTORS
    .word 0, LOADED >> 4        /* where to: offset, segment */
    .quad 1                     /* from this sector on */
gdt:
    .quad 0
    .quad 0x00CF9A000000FFFF    /* 08h: 32-bit code */
    .quad 0x00CF92000000FFFF    /* 10h: data */
gdt_pointer:
    .word . - gdt - 1
    .long AT(gdt)

    .org 510
    .word 0xAA55

/* From 32-bit protected mode, paging off, to kernel_main in 64-bit mode.
 *
 * QEMU's -kernel starts here because of the note below (Xen's PVH boot ABI), boot.S because this is the first instruction.
 * Memory is mapped as it is: virtual addresses are physical ones, so pointers can be given to a device.
 */
    .section .note.pvh, "a", @note
    .align 4
    .long 4, 8, 18              /* sizes of name and value; XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad start

    .section .text.start, "ax"
    .code32
    .globl start
start:
    cli                         /* for ever: this driver polls */
    cld
    movl $stack_top, %esp

    movl $bss_start, %edi       /* a boot sector does not clear it */
    movl $bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb

    movl $low_map + 3, pml4     /* present, writable */
    movl $low_map, %edi         /* 512 pages of 1 GiB: present, writable, large */
    movl $0x83, %eax
    xorl %edx, %edx
    movl $512, %ecx
1:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x40000000, %eax
    adcl $0, %edx
    addl $8, %edi
    loop 1b

    movl %cr4, %eax             /* Intel SDM volume 3, "Initializing IA-32e Mode" */
    orl $0x20, %eax             /* PAE */
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xC0000080, %ecx      /* EFER */
    rdmsr
    orl $0x100, %eax            /* LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax       /* PG, PE */
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq $stack_top, %rsp
    call kernel_main
1:  hlt
    jmp 1b

    .section .rodata
    .align 8
gdt:
    .quad 0
    .quad 0x00AF9A000000FFFF    /* 08h: 64-bit code */
    .quad 0x00CF92000000FFFF    /* 10h: data */
gdt_pointer:
    .word . - gdt - 1
    .long gdt

    .section .bss
    .align 4096
    .globl pml4
pml4:
    .skip 4096
low_map:
    .skip 4096
stack:
    .skip 16384
stack_top:

/*
 * A firmware that distinguishes a usable accelerator from one that only opens: it enters long mode, works for some million
 * instructions on memory behind its own page tables, takes timer interrupts while it spins and while it is halted, and
 * then ends QEMU through isa-debug-exit. An accelerator that takes long for that hangs, or interprets code.
 *
 * Build:  gcc -c accelerator.S -o accelerator.o && objcopy -O binary -j .text accelerator.o accelerator.rom
 * The 512 bytes are the end of a 64 KiB ROM, which lies below 1 MiB and again below 4 GiB; its last 16 hold the reset vector.
 */
	.set	SIZE, 512
	.set	FLAT, 0x100000 - SIZE		/* address of `rom` with paging off */
	.set	REAL, 0x10000 - SIZE		/* offset of `rom` in the segment that the processor starts in */

	.set	PML4, 0x1000			/* RAM: three page tables, the IDT, a stack, and a page to write to */
	.set	PDPT, 0x2000
	.set	PD, 0x3000
	.set	IDT, 0x4000
	.set	STACK, 0x6000
	.set	SCRATCH, 0x7000

	.set	CODE32, 0x08
	.set	DATA, 0x10
	.set	CODE64, 0x18
	.set	TIMER, 0x20			/* vector of the PIT's interrupt */
	.set	TICKS, 3
	.set	LOOPS, 5000000			/* 15 ms where they execute, 50 ms under TCG, 15 s where KVM interprets them */
	.set	EXIT_PORT, 0xf4
	.set	EXIT_VALUE, 0x10		/* QEMU's exit status: 2 * value + 1 */

	.text
rom:
	.code16
real_mode:
	cli
	lgdtl	%cs:(REAL + gdtr - rom)
	movl	%cr0, %eax
	orl	$1, %eax			/* PE */
	movl	%eax, %cr0
	ljmpl	$CODE32, $(FLAT + protected_mode - rom)

	.code32
protected_mode:
	movw	$DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	cld
	movl	$PML4, %edi			/* clear tables and IDT */
	xorl	%eax, %eax
	movl	$(STACK - PML4) / 4, %ecx
	rep stosl
	movl	$PDPT | 3, PML4			/* present, writable */
	movl	$PD | 3, PDPT
	movl	$0x83, PD			/* the first 2 MiB as one page, onto itself */
	movl	$0x1ff, 0xfee000f0		/* local APIC: on */
	movl	$0x700, 0xfee00350		/* LINT0: the PIC's interrupts */

	movl	%cr4, %eax
	orl	$0x20, %eax			/* PAE */
	movl	%eax, %cr4
	movl	$PML4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx		/* EFER */
	rdmsr
	orl	$0x100, %eax			/* LME */
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000000, %eax		/* PG */
	movl	%eax, %cr0
	ljmpl	$CODE64, $(FLAT + long_mode - rom)

	.code64
long_mode:
	movl	$STACK, %esp
	movl	$(FLAT + timer - rom), %eax	/* an interrupt gate */
	movl	$IDT + 16 * TIMER, %edi
	movw	%ax, (%rdi)
	movw	$CODE64, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	shrl	$16, %eax
	movw	%ax, 6(%rdi)
	lidt	FLAT + idtr - rom

	movl	$LOOPS, %ecx			/* memory through the tables, and a flush of the TLB */
1:	movl	%ecx, %eax
	andl	$0xff8, %eax
	addq	%rcx, SCRATCH(%rax)
	loop	1b
	movq	%cr3, %rax
	movq	%rax, %cr3
	xorl	%eax, %eax
	cpuid					/* always leaves the guest */

	leaq	pic(%rip), %rsi			/* PIC and PIT: pairs of port and value */
	movl	$(pic_end - pic) / 2, %ecx
	xorl	%edx, %edx
2:	movb	(%rsi), %dl
	movb	1(%rsi), %al
	outb	%al, %dx
	addq	$2, %rsi
	loop	2b

	xorl	%r15d, %r15d
	sti
3:	cmpl	$TICKS, %r15d			/* interrupts while it runs */
	jb	3b
4:	hlt					/* and while it is halted */
	cmpl	$2 * TICKS, %r15d
	jb	4b
	cli
	movb	$EXIT_VALUE, %al
	outb	%al, $EXIT_PORT
5:	hlt
	jmp	5b

timer:
	pushq	%rax
	incl	%r15d
	movb	$0x20, %al			/* end of interrupt */
	outb	%al, $0x20
	popq	%rax
	iretq

pic:
	.byte	0x20, 0x11, 0x21, TIMER, 0x21, 4, 0x21, 1	/* initialise, vectors, cascade, 8086 mode */
	.byte	0x21, 0xfe					/* only IRQ 0 */
	.byte	0x43, 0x34, 0x40, 0xa9, 0x40, 0x04		/* channel 0, rate generator, 1193 = 1 kHz */
pic_end:

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff		/* CODE32 */
	.quad	0x00cf93000000ffff		/* DATA */
	.quad	0x00af9b000000ffff		/* CODE64 */
gdtr:
	.word	gdtr - gdt - 1
	.long	FLAT + gdt - rom
idtr:
	.word	16 * (TIMER + 1) - 1
	.quad	IDT

	.org	SIZE - 16
	.code16
reset:
	jmp	real_mode
	.org	SIZE

/*
 * A prompt on the first serial line from which the BIOS's disk services can be called: what a boot loader sees of a disk.
 * SeaBIOS starts it the way it starts Linux (Documentation/arch/x86/boot.rst), with QEMU's -kernel: in real mode, from the
 * byte at 200h on. All numbers are hexadecimal, and what is wrong with a command is answered with a question mark.
 *
 *   l                            the disks: number, blocks, block size (INT 13h, AH=08h and 48h)
 *   r DISK LBA BLOCKS ADDRESS    reads into memory (AH=42h)
 *   w DISK LBA BLOCKS ADDRESS    writes from memory (AH=43h)
 *
 * A call transfers at most 127 blocks (EDD-3, "Disk address packet"), and to where real mode reaches. So blocks pass through
 * WINDOW, at the place in a page where ADDRESS lies in its own, and are copied beyond 1 MiB with 4 GiB segments.
 *
 * The interrupt vectors are put back after each call: a driver that gives the controller no place for metadata has it written
 * over them, and the result of the call is still needed.
 *
 * Build:
 *   gcc -m32 -c seabios.S -o seabios.o &&
 *   objcopy -O binary -j .text seabios.o seabios.rom
 */
	.set	COM1, 0x3f8
	.set	IRQ4, 0x0c			/* its vector */
	.set	PIC, 0x20
	.set	PIC_MASK, 0x21
	.set	WINDOW, 0x20000			/* up to 80000h */
	.set	WINDOW_SIZE, 0x5f000		/* without a page for the place in the page */
	.set	MOST_BLOCKS, 127
	.set	SETUP_SECTORS, 2		/* behind the first one */
	.set	VECTORS, 0x1000			/* in our segment, behind the program: what they were */
	.set	VECTORS_SIZE, 0x400

	.text
	.code16
image:
	.org	0x1f1
	.byte	SETUP_SECTORS
	.org	0x1fe
	.word	0xaa55
	.org	0x200
entry:						/* CS points here: 20h paragraphs behind the image */
	jmp	start
	.ascii	"HdrS"
	.word	0x0206				/* version of the boot protocol */
	.org	0x211
	.byte	1				/* LOADED_HIGH: what follows the setup goes to 1 MiB, and stays unused */
	.org	0x228
	.long	0				/* no command line */
	.org	0x22c
	.long	0x37ffffff			/* highest address of an initrd */
	.org	0x238
	.long	255				/* longest command line */
	.org	0x268

start:
	movw	%cs, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movzwl	%ax, %eax
	shll	$4, %eax
	addl	%eax, gdtr - entry + 2		/* the table's linear address */

	xorw	%ax, %ax			/* the line interrupts, so that the processor can halt until a byte comes */
	movw	%ax, %es
	movw	$received - entry, %es:IRQ4 * 4
	movw	%cs, %es:IRQ4 * 4 + 2
	movw	$COM1 + 4, %dx
	movb	$0x0b, %al			/* modem control: DTR, RTS, OUT2, which lets interrupts through */
	outb	%al, %dx
	movw	$COM1 + 1, %dx
	movb	$1, %al				/* interrupt enable: received data */
	outb	%al, %dx
	inb	$PIC_MASK, %al
	andb	$0xef, %al
	outb	%al, $PIC_MASK

	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%cs, %ax
	movw	%ax, %es
	xorw	%si, %si
	movw	$VECTORS, %di
	movw	$VECTORS_SIZE / 4, %cx
	cld
	rep movsl

prompt:
	movw	%cs, %ax
	movw	%ax, %ds
	movw	%ax, %es
	sti
	movw	$text_prompt - entry, %si
	call	print
	movw	$line - entry, %di
1:	call	receive
	cmpb	$'\n', %al
	je	2f
	cmpw	$line_end - entry, %di
	jae	1b				/* too long: the rest is lost, and the command wrong */
	stosb
	jmp	1b
2:	movb	$0, (%di)
	movw	$line - entry, %si
	lodsb
	cmpb	$'l', %al
	je	list
	movb	$0x42, operation - entry
	cmpb	$'r', %al
	je	transfer
	movb	$0x43, operation - entry
	cmpb	$'w', %al
	je	transfer
wrong:
	movw	$text_wrong - entry, %si
	call	print
	jmp	prompt

list:
	movb	$0x08, %ah
	movb	$0x80, %dl
	call	disk_services			/* DL: how many disks */
	jc	prompt
	movw	%cs, %ax
	movw	%ax, %es
	movb	%dl, left - entry
	movb	$0x80, disk - entry
1:	cmpb	$0, left - entry
	je	prompt
	call	parameters
	jc	2f
	movw	$text_disk - entry, %si
	call	print
	movzbl	disk - entry, %eax
	call	print_number
	movw	$text_blocks - entry, %si
	call	print
	movl	edd_sectors - entry + 4, %eax
	call	print_number
	movl	edd_sectors - entry, %eax
	call	print_number
	movw	$text_of - entry, %si
	call	print
	movzwl	edd_bytes - entry, %eax
	call	print_number
2:	incb	disk - entry
	decb	left - entry
	jmp	1b

transfer:
	call	number
	movb	%al, disk - entry
	call	number
	movl	%eax, packet_lba - entry
	movl	%edx, packet_lba - entry + 4
	call	number
	movl	%eax, blocks - entry
	call	number
	movl	%eax, address - entry
	cmpb	$0, (%si)			/* nothing may follow */
	jne	wrong
	call	parameters
	jc	failed
	movl	$WINDOW_SIZE, %eax
	xorl	%edx, %edx
	movzwl	edd_bytes - entry, %ecx
	divl	%ecx
	cmpl	$MOST_BLOCKS, %eax
	jbe	1f
	movl	$MOST_BLOCKS, %eax
1:	movl	%eax, most - entry

piece:
	movl	blocks - entry, %eax
	testl	%eax, %eax
	jz	done
	cmpl	most - entry, %eax
	jbe	1f
	movl	most - entry, %eax
1:	movl	%eax, now - entry
	movw	%ax, packet_count - entry
	movzwl	edd_bytes - entry, %ecx
	mull	%ecx
	movl	%eax, bytes - entry
	movl	address - entry, %eax
	andl	$0xfff, %eax
	movw	%ax, packet_offset - entry
	addl	$WINDOW, %eax
	movl	%eax, place - entry
	cmpb	$0x43, operation - entry
	jne	2f
	movl	address - entry, %esi
	movl	place - entry, %edi
	call	copy
2:	movb	operation - entry, %ah
	movb	$0, %al				/* a write is not verified */
	movb	disk - entry, %dl
	movw	$packet - entry, %si
	call	disk_services
	jc	failed
	cmpb	$0x42, operation - entry
	jne	3f
	movl	place - entry, %esi
	movl	address - entry, %edi
	call	copy
3:	movl	now - entry, %eax
	subl	%eax, blocks - entry
	addl	%eax, packet_lba - entry
	adcl	$0, packet_lba - entry + 4
	movl	bytes - entry, %eax
	addl	%eax, address - entry
	jmp	piece

done:
	movw	$text_done - entry, %si
	call	print
	jmp	prompt

failed:						/* AH: the BIOS's status */
	movzbl	%ah, %eax
	pushl	%eax
	movw	$text_failed - entry, %si
	call	print
	popl	%eax
	call	print_number
	jmp	prompt

/* Asks for the parameters of `disk`; carry and AH where there are none. */
parameters:
	movb	$0x48, %ah
	movb	disk - entry, %dl
	movw	$edd - entry, %si
	movw	$edd_end - edd, (%si)

/* INT 13h; no interrupt comes before the vectors are what they were. */
disk_services:
	cli
	int	$0x13
	pushf
	pushw	%es
	pushw	%si
	pushw	%di
	pushw	%cx
	xorw	%di, %di
	movw	%di, %es
	movw	$VECTORS, %si
	movw	$VECTORS_SIZE / 4, %cx
	cld
	rep movsl
	popw	%cx
	popw	%di
	popw	%si
	popw	%es
	popf
	sti
	ret

/* Copies `bytes` bytes from %esi to %edi, linear addresses, in segments that a visit to protected mode has made 4 GiB long. */
copy:
	pushw	%ds
	pushw	%es
	movl	bytes - entry, %ecx
	cli
	cld
	lgdtl	gdtr - entry
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	movw	$8, %bx
	movw	%bx, %ds
	movw	%bx, %es
	andb	$0xfe, %al
	movl	%eax, %cr0
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	addr32 rep movsb
	popw	%es
	popw	%ds
	sti
	ret

/* The next number of the line at %si in %edx:%eax; 0 where there is none. */
number:
	xorl	%eax, %eax
	xorl	%edx, %edx
1:	cmpb	$' ', (%si)
	jne	2f
	incw	%si
	jmp	1b
2:	movzbl	(%si), %ecx
	subb	$'0', %cl
	cmpb	$10, %cl
	jb	3f
	subb	$'a' - '0', %cl
	cmpb	$6, %cl
	jae	4f
	addb	$10, %cl
3:	shldl	$4, %eax, %edx
	shll	$4, %eax
	orl	%ecx, %eax
	incw	%si
	jmp	2b
4:	ret

/* Prints %eax as eight digits. */
print_number:
	movw	$8, %cx
1:	roll	$4, %eax
	pushl	%eax
	andb	$15, %al
	cmpb	$10, %al
	jb	2f
	addb	$'a' - '0' - 10, %al
2:	addb	$'0', %al
	call	send
	popl	%eax
	loop	1b
	ret

print:
1:	lodsb
	testb	%al, %al
	jz	2f
	call	send
	jmp	1b
2:	ret

send:
	pushw	%ax
	movw	$COM1 + 5, %dx
1:	inb	%dx, %al
	testb	$0x20, %al			/* the transmitter is empty */
	jz	1b
	popw	%ax
	movw	$COM1, %dx
	outb	%al, %dx
	ret

receive:
	movw	$COM1 + 5, %dx
1:	cli
	inb	%dx, %al
	testb	$1, %al				/* there is a byte */
	jnz	2f
	sti
	hlt					/* an interrupt after sti is taken in here */
	jmp	1b
2:	sti
	movw	$COM1, %dx
	inb	%dx, %al
	ret

received:					/* the interrupt only ends the halt */
	pushw	%ax
	movb	$0x20, %al			/* end of interrupt */
	outb	%al, $PIC
	popw	%ax
	iretw

text_prompt:	.asciz	"\r\n> "
text_wrong:	.asciz	"?"
text_done:	.asciz	"done"
text_failed:	.asciz	"failed, status "
text_disk:	.asciz	"\r\ndisk "
text_blocks:	.asciz	": blocks "
text_of:	.asciz	" of "

	.balign	8, 0
gdt:
	.quad	0
	.quad	0x008f92000000ffff		/* writable data, 4 GiB from 0 on */
gdtr:
	.word	gdtr - gdt - 1
	.long	gdt - entry

packet:						/* EDD-3, "Disk address packet" */
	.byte	packet_end - packet, 0
packet_count:
	.word	0
packet_offset:
	.word	0
	.word	WINDOW >> 4
packet_lba:
	.quad	0
packet_end:

edd:						/* EDD-3, "Result buffer" of AH=48h, its first 26 bytes */
	.skip	16
edd_sectors:
	.skip	8
edd_bytes:
	.skip	2
edd_end:

operation:	.byte	0
disk:		.byte	0
left:		.byte	0
	.balign	4, 0
blocks:		.long	0
address:	.long	0
most:		.long	0
now:		.long	0
bytes:		.long	0
place:		.long	0

line:		.skip	80
line_end:	.byte	0
	.org	(SETUP_SECTORS + 2) * 512	/* with a sector of the kernel proper, which must not be empty */

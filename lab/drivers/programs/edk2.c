/*
 * A prompt on the first serial line from which UEFI's block devices can be used: what a boot loader sees of a disk, more than
 * the shell can do. OVMF starts it as QEMU's -kernel, once all drivers are connected. All numbers are hexadecimal; a disk is
 * one that is a whole NVMe namespace, numbered in the order in which the firmware has them.
 *
 *   h                            follows the slots: what was plugged gets its addresses, but no driver; says how many functions
 *                                of class 0108h there are
 *   v                            which firmware it is: its vendor and revision, and what SMBIOS says of it
 *   i                            the controllers (NVM Express Pass Thru Protocol, which the driver installs on each)
 *   l                            the disks
 *   d                            what Disk Info and NVM Express Pass Thru say of the disks
 *   r DISK LBA BLOCKS ADDRESS    Block I/O: ReadBlocks, WriteBlocks, FlushBlocks, Reset
 *   w DISK LBA BLOCKS ADDRESS
 *   f DISK
 *   z DISK
 *                                r and w with a fifth number: Block I/O 2, ReadBlocksEx and WriteBlocksEx, so many requests
 *                                that are begun before the first is waited for (1: one that blocks); f and z go on with the
 *                                interface of the last transfer
 *   n QUEUE OPCODE NAMESPACE     a command on the admin or io queue: NVM Express Pass Thru, on the io queue without blocking;
 *                                Security Receive and Send by Storage Security Command, Sanitize by Media Sanitize if there is one
 *   m DISK FORMAT                Media Sanitize (of EDK2, since 2024): MediaFormat, to the block size of that LBA format
 *   e DISK LBA BLOCKS ADDRESS    MediaClear, in one pass: all blocks of the disk get the bytes of the one at the address
 *   c                            connects the drivers to all functions of class 0108h
 *   u                            disconnects them
 *   s                            Runtime Services: ResetSystem, to shut down
 *
 * Names and layouts are those of the UEFI Specification 2.10: the system table, boot and runtime services, device path nodes, and
 * the protocols PCI I/O, Block I/O, Block I/O 2, Storage Security Command, NVM Express Pass Thru and Component Name2; of the PI
 * Specification 1.8: PCI Hot Plug Request and Disk Info; of EDK2 itself, MdeModulePkg/Include/Protocol/MediaSanitize.h;
 * and of the SMBIOS Specification 3.7: the entry points (5.2) and structure 0 (7.1).
 *
 * Build:
 *   gcc -Os -std=c11 -Wall -Wextra -ffreestanding -fpie -fno-stack-protector -fno-asynchronous-unwind-tables
 *       -fcf-protection=none -fno-ident -fshort-wchar -mno-red-zone -mgeneral-regs-only -nostdlib -static
 *       -Wl,--build-id=none,--oformat=binary -Wl,-T,edk2.ld edk2.c -o edk2.rom
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* PE32+ (Microsoft, "PE Format") with one section, that is loaded where it lies in the file and needs no relocation. The bytes
 * around 200h say to QEMU that nothing of this is a Linux kernel. */
__asm__(
	".section .header, \"ax\"\n"
	".ascii \"MZ\"\n"
	".org 0x3c\n.long 0x40\n"
	".ascii \"PE\\0\\0\"\n"
	".word 0x8664, 1\n"			/* x86-64, sections */
	".long 0, 0, 0\n"
	".word optional_end - optional, 0x0206\n"	/* executable, without line numbers and debugging information */
	"optional:\n"
	".word 0x20b, 0\n"
	".long image_size - 0x400, 0, 0\n"	/* of code, of data */
	".long main, 0x400\n"
	".quad 0\n"				/* image base: anywhere */
	".long 0x200, 0x200\n"			/* alignment in memory and in the file */
	".word 0, 0, 0, 0, 0, 0\n"
	".long 0, image_size, 0x400, 0\n"
	".word 10, 0\n"				/* an EFI application */
	".quad 0, 0, 0, 0\n"
	".long 0, 6\n"				/* data directories, all empty */
	".fill 6, 8, 0\n"
	"optional_end:\n"
	".ascii \".image\\0\\0\"\n"
	".long image_size - 0x400, 0x400, image_size - 0x400, 0x400\n"
	".long 0, 0, 0\n"
	".long 0xe0000020\n"			/* code; executed, read and written */
	".org 0x400\n"
);

#define API __attribute__((ms_abi))
#define COM1 0x3f8
#define TPL_APPLICATION 4
#define TPL_NOTIFY 16
#define BY_PROTOCOL 2
#define OPEN_BY_DRIVER 0x10
#define RESET_SHUTDOWN 2
#define ALLOCATE_ADDRESS 2
#define HOT_PLUG_ADD 0
#define LOADER_DATA 2
#define BUFFER 0x2000000			/* what the manifest says of addresses: limits.address */
#define BUFFER_PAGES 1024
#define MOST 64
#define LOOKS 10000				/* some milliseconds */
#define TIMER 0x80000000
#define NOTIFY_SIGNAL 0x200
#define TIMER_RELATIVE 2
#define NOT_READY 0x8000000000000006
#define MOST_PARTS 32
#define PART_SECONDS 5
#define SECOND 10000000				/* times 100 ns */
#define IDENTIFY 0x06				/* opcodes of NVMe */
#define SECURITY_SEND 0x81
#define SECURITY_RECEIVE 0x82
#define SANITIZE 0x84
#define TRANSFER 4096
#define LONG 2000000				/* times 100 ns: no command takes so long that does not fail */
#define PROCESSOR_PRIORITY 0xfee000a0		/* of the local APIC: the class of the interrupt that is in service */
#define INTERRUPTS_ON 0x200			/* RFLAGS.IF */
#define TICK 10000				/* microseconds of the firmware's timer */
#define STORAGE_NVM 0x0108			/* base class and subclass; the programming interface is the driver's business */
#define IO_CONTROLLER 0x010802
#define PCI_EXPRESS 0x10			/* capability: PCI Express Base 3.0, 7.8 */
#define SLOT_IMPLEMENTED 0x100
#define BIOS_INFORMATION 0			/* types of SMBIOS structures */
#define END_OF_TABLE 127

typedef uint64_t Status;			/* an error has bit 63 */
typedef void *Handle;

typedef struct { uint32_t a; uint16_t b, c; uint8_t d[8]; } Guid;

typedef struct Opened { Handle agent, controller; uint32_t attributes, count; } Opened;

typedef struct {
	uint8_t header[24];
	uint64_t (API *raise_tpl)(uint64_t);
	void (API *restore_tpl)(uint64_t);
	Status (API *allocate_pages)(uint64_t type, uint64_t memory, uint64_t pages, uint64_t *address);
	void *free_pages, *get_memory_map, *allocate_pool;
	Status (API *free_pool)(void *);
	Status (API *create_event)(uint32_t type, uint64_t tpl, void (API *notify)(void *, void *), void *context, void **event);
	Status (API *set_timer)(void *event, uint64_t type, uint64_t time);
	void *wait_for_event, *signal_event;
	Status (API *close_event)(void *event);
	Status (API *check_event)(void *event);
	void *install_protocol, *reinstall_protocol, *uninstall_protocol;
	Status (API *handle_protocol)(Handle, const Guid *, void **);
	void *reserved, *register_notify, *locate_handle;
	Status (API *locate_device_path)(const Guid *, void **path, Handle *);
	void *install_table;
	void *load_image, *start_image, *exit, *unload_image, *exit_boot_services, *get_next_count;
	Status (API *stall)(uint64_t microseconds);
	Status (API *set_watchdog_timer)(uint64_t seconds, uint64_t code, uint64_t size, void *data);
	Status (API *connect_controller)(Handle, Handle *drivers, void *path, bool recursive);
	Status (API *disconnect_controller)(Handle, Handle driver, Handle child);
	void *open_protocol, *close_protocol;
	Status (API *open_information)(Handle, const Guid *, struct Opened **, uint64_t *count);
	void *protocols_per_handle;
	Status (API *locate_handle_buffer)(uint64_t type, const Guid *, void *key, uint64_t *count, Handle **);
} BootServices;

typedef struct {
	uint8_t header[24];
	void *get_time, *set_time, *get_wakeup, *set_wakeup, *set_virtual_map, *convert_pointer;
	void *get_variable, *get_next_variable, *set_variable, *get_next_count;
	void (API *reset_system)(uint64_t type, Status, uint64_t size, void *data);
} RuntimeServices;

typedef struct {
	uint8_t header[24];
	const uint16_t *vendor;
	uint64_t revision;
	void *input_handle, *input, *output_handle, *output, *error_handle, *error;
	RuntimeServices *runtime;
	BootServices *boot;
	uint64_t table_count;
	struct { Guid guid; const uint8_t *table; } *tables;
} SystemTable;

typedef struct {
	uint32_t id;
	bool removable, present, partition, read_only, caching;
	uint32_t block_size, align;
	uint64_t last_block;
} Media;

typedef struct BlockIo {
	uint64_t revision;
	Media *media;
	Status (API *reset)(struct BlockIo *, bool extended);
	Status (API *read)(struct BlockIo *, uint32_t media, uint64_t lba, uint64_t bytes, void *buffer);
	Status (API *write)(struct BlockIo *, uint32_t media, uint64_t lba, uint64_t bytes, void *buffer);
	Status (API *flush)(struct BlockIo *);
} BlockIo;

typedef struct { void *event; Status status; } Token;

typedef struct BlockIo2 {
	Media *media;
	Status (API *reset)(struct BlockIo2 *, bool extended);
	Status (API *read)(struct BlockIo2 *, uint32_t media, uint64_t lba, Token *, uint64_t bytes, void *buffer);
	Status (API *write)(struct BlockIo2 *, uint32_t media, uint64_t lba, Token *, uint64_t bytes, void *buffer);
	Status (API *flush)(struct BlockIo2 *, Token *);
} BlockIo2;

typedef struct Security {
	Status (API *receive)(struct Security *, uint32_t media, uint64_t timeout, uint8_t protocol, uint16_t specific,
			      uint64_t size, void *buffer, uint64_t *received);
	Status (API *send)(struct Security *, uint32_t media, uint64_t timeout, uint8_t protocol, uint16_t specific,
			   uint64_t size, void *buffer);
} Security;

typedef struct MediaSanitize {
	uint64_t revision;
	Media *media;
	uint32_t capabilities;
	Status (API *clear)(struct MediaSanitize *, uint32_t media, uint32_t passes, void *block);
	Status (API *purge)(struct MediaSanitize *, uint32_t media, uint32_t action, uint32_t pattern);
	Status (API *format)(struct MediaSanitize *, uint32_t media, uint32_t block_size_log, uint32_t erase);
} MediaSanitize;

typedef struct DiskInfo {
	Guid interface;
	Status (API *inquiry)(struct DiskInfo *, void *data, uint32_t *size);
	Status (API *identify)(struct DiskInfo *, void *data, uint32_t *size);
	Status (API *sense)(struct DiskInfo *, void *data, uint32_t *size, uint8_t *number);
	Status (API *which_ide)(struct DiskInfo *, uint32_t *channel, uint32_t *device);
} DiskInfo;

typedef struct PciIo {
	void *poll_memory, *poll_io, *read_memory, *write_memory, *read_io, *write_io;
	Status (API *read)(struct PciIo *, uint64_t width, uint32_t offset, uint64_t count, void *buffer);
	Status (API *write)(struct PciIo *, uint64_t width, uint32_t offset, uint64_t count, void *buffer);
	void *copy, *map, *unmap, *allocate, *free, *flush;
	Status (API *location)(struct PciIo *, uint64_t *segment, uint64_t *bus, uint64_t *device, uint64_t *function);
} PciIo;

typedef struct HotPlug {
	Status (API *notify)(struct HotPlug *, uint64_t operation, Handle, void *path, uint8_t *count, Handle *children);
} HotPlug;

typedef struct { uint32_t opcode; uint8_t valid; uint32_t namespace, dword2, dword3, dword10[6]; } Command;

typedef struct {
	uint64_t timeout;
	void *data;
	uint32_t length;
	void *metadata;
	uint32_t metadata_length;
	uint8_t queue;				/* 0: admin, 1: I/O */
	Command *command;
	uint32_t *completion;
} Packet;

typedef struct PassThru {
	struct { uint32_t attributes, align, version; } *mode;
	Status (API *send)(struct PassThru *, uint32_t namespace, Packet *, void *event);
	void *next_namespace, *build_path;
	Status (API *namespace_of)(struct PassThru *, const void *path, uint32_t *namespace);
} PassThru;

typedef struct ComponentName {
	Status (API *driver_name)(struct ComponentName *, const char *language, uint16_t **name);
	Status (API *controller_name)(struct ComponentName *, Handle controller, Handle child, const char *language, uint16_t **name);
} ComponentName;

typedef struct { uint8_t type, subtype, length[2], data[]; } Node;

static const Guid BLOCK_IO = {0x964e5b21, 0x6459, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const Guid BLOCK_IO_2 = {0xa77b2472, 0xe282, 0x4e9f, {0xa2, 0x45, 0xc2, 0xc0, 0xe2, 0x7b, 0xbc, 0xc1}};
static const Guid SECURITY = {0xc88b0b6d, 0x0dfc, 0x49a7, {0x9c, 0xb4, 0x49, 0x07, 0x4b, 0x4c, 0x3a, 0x78}};
static const Guid MEDIA_SANITIZE = {0x0d799a99, 0x25af, 0x429e, {0x92, 0x72, 0xd0, 0xb2, 0x7d, 0x6d, 0x5f, 0x14}};
static const Guid DISK_INFO = {0xd432a67f, 0x14dc, 0x484b, {0xb3, 0xbb, 0x3f, 0x02, 0x91, 0x84, 0x93, 0x27}};
static const Guid DEVICE_PATH = {0x09576e91, 0x6d3f, 0x11d2, {0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b}};
static const Guid PCI_IO = {0x4cf5b200, 0x68b8, 0x4ca5, {0x9e, 0xec, 0xb2, 0x3e, 0x3f, 0x50, 0x02, 0x9a}};
static const Guid HOT_PLUG = {0x19cb87ab, 0x2cb9, 0x4665, {0x83, 0x60, 0xdd, 0xcf, 0x60, 0x54, 0xf7, 0x9d}};
static const Guid PASS_THRU = {0x52c78312, 0x8edc, 0x4233, {0x98, 0xf2, 0x1a, 0x1a, 0xa5, 0xe3, 0x88, 0xa5}};
static const Guid COMPONENT_NAME = {0x6a7a5cff, 0xe8d9, 0x4f70, {0xba, 0xda, 0x75, 0xab, 0x30, 0x25, 0xce, 0x14}};

static const Guid SMBIOS = {0xeb9d2d31, 0x2d88, 0x11d3, {0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d}};
static const Guid SMBIOS_3 = {0xf2fd1544, 0x9794, 0x4a2c, {0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94}};

static BootServices *boot;
static Handle disks[MOST];
static uint64_t disk_count;
static Handle controllers[MOST];
static uint64_t controller_count;
static bool by_parts;				/* the last transfer was by Block I/O 2 */

static void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static uint8_t in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void put(char c)
{
	while (!(in8(COM1 + 5) & 0x20)) { }
	out8(COM1, (uint8_t)c);
}

static void sleep(void)
{
	__asm__ volatile("hlt");		/* until the firmware's timer ticks, every 10 ms */
}

/* The line's first character may be long in coming; the others are just behind it. */
static char get(bool first)
{
	for (unsigned looks = 0; !(in8(COM1 + 5) & 1); looks++)
		if (first || looks > LOOKS)
			sleep();
	return (char)in8(COM1);
}

static void say(const char *text)
{
	while (*text)
		put(*text++);
}

static void say_number(uint64_t value, unsigned digits)
{
	while (digits--)
		put("0123456789abcdef"[value >> 4 * digits & 15]);
}

/* The next number of the line; 0 where there is none. */
static uint64_t number(const char **line)
{
	uint64_t value = 0;
	while (**line == ' ')
		(*line)++;
	for (;; (*line)++) {
		char c = **line;
		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint64_t)(c - 'a' + 10);
		else
			return value;
	}
}

static void *protocol(Handle handle, const Guid *guid)
{
	void *found = NULL;
	return boot->handle_protocol(handle, guid, &found) >> 63 ? NULL : found;
}

/* The node of a type in the handle's device path. */
static const uint8_t *node(Handle handle, uint8_t type, uint8_t subtype)
{
	const Node *at = protocol(handle, &DEVICE_PATH);
	while (at && at->type != 0x7f) {
		if (at->type == type && at->subtype == subtype)
			return at->data;
		at = (const Node *)((const uint8_t *)at + at->length[0] + 256 * at->length[1]);
	}
	return NULL;
}

static uint64_t located(const Guid *guid, Handle **handles)
{
	uint64_t count = 0;
	return boot->locate_handle_buffer(BY_PROTOCOL, guid, NULL, &count, handles) >> 63 ? 0 : count;
}

/* A register of the function's configuration space, of 1 << width bytes. */
static uint32_t configuration(Handle handle, uint64_t width, uint32_t offset)
{
	PciIo *pci = protocol(handle, &PCI_IO);
	uint32_t value = 0;
	pci->read(pci, width, offset, 1, &value);
	return value;
}

static void find(void)
{
	Handle *handles;
	uint64_t count = located(&BLOCK_IO, &handles);
	disk_count = 0;
	for (uint64_t n = 0; n < count && disk_count < MOST; n++) {
		BlockIo *io = protocol(handles[n], &BLOCK_IO);
		if (io && !io->media->partition && node(handles[n], 3, 23))
			disks[disk_count++] = handles[n];
	}
	if (count)
		boot->free_pool(handles);
	count = located(&PCI_IO, &handles);
	controller_count = 0;
	for (uint64_t n = 0; n < count && controller_count < MOST; n++)
		if (configuration(handles[n], 2, 8) >> 16 == STORAGE_NVM)
			controllers[controller_count++] = handles[n];
	if (count)
		boot->free_pool(handles);
}

static void say_address(Handle handle)
{
	PciIo *pci = protocol(handle, &PCI_IO);
	uint64_t segment, bus, device, function;
	pci->location(pci, &segment, &bus, &device, &function);
	say_number(segment, 4);
	put(':');
	say_number(bus, 2);
	put(':');
	say_number(device, 2);
	put('.');
	say_number(function, 1);
}

/* The controller that the disk's device path leads through. */
static Handle owner(Handle disk)
{
	void *path = protocol(disk, &DEVICE_PATH);
	Handle found = NULL;
	boot->locate_device_path(&PCI_IO, &path, &found);
	return found;
}

static void say_wide(const uint16_t *text)
{
	for (; *text; text++)
		put(*text < 0x7f ? (char)*text : '?');
}

/* What the driver that has the controller calls itself, or the disk: others (VirtioKeyboardDxe) name what is not theirs. */
static void say_name(Handle controller, Handle disk)
{
	Opened *opened;
	uint64_t count = 0;
	if (boot->open_information(controller, &PCI_IO, &opened, &count) >> 63)
		return;
	for (uint64_t n = 0; n < count; n++) {
		ComponentName *names = opened[n].attributes & OPEN_BY_DRIVER ? protocol(opened[n].agent, &COMPONENT_NAME) : NULL;
		uint16_t *name;
		if (names && !((disk ? names->controller_name(names, controller, disk, "en", &name)
				     : names->driver_name(names, "en", &name)) >> 63))
			say_wide(name);
	}
	boot->free_pool(opened);
}

static void show_controllers(void)
{
	for (uint64_t n = 0; n < controller_count; n++) {
		PassThru *pass = protocol(controllers[n], &PASS_THRU);
		if (!pass)
			continue;
		say("\r\ncontroller ");
		say_address(controllers[n]);
		say(" version ");
		say_number(pass->mode->version >> 16, 1);	/* as the register VS: major, minor */
		put('.');
		say_number(pass->mode->version >> 8, 1);
		say(" of ");
		say_name(controllers[n], NULL);
	}
}

static void show_disks(void)
{
	for (uint64_t n = 0; n < disk_count; n++) {
		Media *media = ((BlockIo *)protocol(disks[n], &BLOCK_IO))->media;
		const uint8_t *namespace = node(disks[n], 3, 23);
		say("\r\ndisk ");
		say_number(n, 2);
		say(" of ");
		say_address(owner(disks[n]));
		say(": namespace ");
		for (int byte = 3; byte >= 0; byte--)
			say_number(namespace[byte], 2);
		say(" blocks ");
		say_number(media->last_block + 1, 16);
		say(" of ");
		say_number(media->block_size, 8);
		say(" called ");
		say_name(owner(disks[n]), disks[n]);
	}
}

static void say_status(Status status)
{
	if (status >> 63) {
		say("failed, status ");
		say_number(status, 16);
	} else {
		say("done");
	}
}

/* What other protocols say of each disk: which namespace Pass Thru finds at the end of its path, and the size in Disk Info. */
static void show_details(void)
{
	uint64_t *data = (void *)BUFFER;
	for (uint64_t n = 0; n < disk_count; n++) {
		PassThru *pass = protocol(owner(disks[n]), &PASS_THRU);
		DiskInfo *info = protocol(disks[n], &DISK_INFO);
		uint32_t namespace = 0, size = TRANSFER, channel, device;
		uint8_t number;
		if (pass)
			pass->namespace_of(pass, node(disks[n], 3, 23) - sizeof(Node), &namespace);
		say("\r\ndetails ");
		say_number(n, 2);
		say(": namespace ");
		say_number(namespace, 8);
		if (!info)
			continue;
		say(" blocks ");
		say_number(info->identify(info, data, &size) >> 63 ? 0 : data[0], 16);
		say(" inquiry ");
		say_status(info->inquiry(info, data, &size));
		say(" sense ");
		say_status(info->sense(info, data, &size, &number));
		say(" ide ");
		say_status(info->which_ide(info, &channel, &device));
	}
}

static void *new_event(void)
{
	void *event = NULL;
	boot->create_event(0, 0, NULL, NULL, &event);
	return event;
}

/* Wait until the driver signals the event; for ever, if it never does. */
static void wait_for(void *event)
{
	while (boot->check_event(event) == NOT_READY) { }
	boot->close_event(event);
}

/* The first failure of so many requests side by side. */
static Status transfer_in_parts(BlockIo2 *io, bool write, uint64_t lba, uint64_t blocks, uint8_t *address, uint64_t parts)
{
	static Token tokens[MOST_PARTS];
	uint64_t begun = 0, each = (blocks + parts - 1) / parts;
	Status worst = 0;
	for (uint64_t at = 0; at < blocks && begun < parts && !(worst >> 63); at += each, begun++) {
		uint64_t bytes = (at + each < blocks ? each : blocks - at) * io->media->block_size;
		tokens[begun] = (Token) {parts > 1 ? new_event() : NULL, 0};
		worst = (write ? io->write : io->read)(io, io->media->id, lba + at, &tokens[begun], bytes,
						      address + at * io->media->block_size);
	}
	if (parts == 1)
		return worst;
	if (worst >> 63)
		boot->close_event(tokens[--begun].event);
	for (uint64_t n = 0; n < begun; n++) {
		wait_for(tokens[n].event);
		if (!(worst >> 63))
			worst = tokens[n].status;
	}
	return worst;
}

static Status flush_side_by_side(BlockIo2 *io)
{
	Token token = {new_event(), 0};
	Status status = io->flush(io, &token);
	if (status >> 63) {
		boot->close_event(token.event);
		return status;
	}
	wait_for(token.event);
	return token.status;
}

static Status use_security(Security *security, uint8_t opcode, void *buffer)
{
	uint64_t received = 0;
	if (opcode == SECURITY_RECEIVE)
		return security->receive(security, 0, PART_SECONDS * SECOND, 0, 0, TRANSFER, buffer, &received);
	return security->send(security, 0, PART_SECONDS * SECOND, 0, 0, TRANSFER, buffer);
}

/* The completion's status is what the driver's caller sees, whatever the call returns. */
static void pass_command(const char *line)
{
	static uint32_t completion[4];
	static Command command;
	while (*line == ' ')
		line++;
	bool io = *line == 'i';
	while (*line && *line != ' ')
		line++;
	uint8_t opcode = (uint8_t)number(&line);
	uint32_t namespace = (uint32_t)number(&line);
	MediaSanitize *sanitize;
	Security *security = disk_count ? protocol(disks[0], &SECURITY) : NULL;
	PassThru *pass = controller_count ? protocol(controllers[0], &PASS_THRU) : NULL;
	if (!pass) {
		say("failed, no such controller");
		return;
	}
	if (!io && security && (opcode == SECURITY_SEND || opcode == SECURITY_RECEIVE)) {
		say_status(use_security(security, opcode, (void *)BUFFER));
		return;
	}
	if (!io && opcode == SANITIZE && (sanitize = disk_count ? protocol(disks[0], &MEDIA_SANITIZE) : NULL)) {
		say_status(sanitize->purge(sanitize, sanitize->media->id, 0, 0));
		return;
	}
	command = (Command) {.opcode = opcode, .namespace = namespace};
	completion[3] = 0;
	Packet packet = {.timeout = PART_SECONDS * SECOND, .queue = io, .command = &command, .completion = completion};
	if (opcode & 3) {			/* bits 1:0 of an opcode: the direction of its data */
		packet.data = (void *)BUFFER;
		packet.length = TRANSFER;
	}
	void *event = io ? new_event() : NULL;
	Status status = pass->send(pass, namespace, &packet, event);
	if (event && !(status >> 63))
		wait_for(event);
	else if (event)
		boot->close_event(event);
	if (completion[3] >> 17) {
		say("failed, completion ");
		say_number(completion[3] >> 17 & 0x7ff, 4);
	} else if (status >> 63) {
		say_status(status);
	} else {
		say("done, result ");
		say_number(completion[0], 8);
	}
}

/* The protocol takes a block size, and the lab's action the index of a format: Identify Namespace has both. */
static void format_disk(const char *line)
{
	static uint32_t completion[4];
	static Command identify;
	uint64_t disk = number(&line), format = number(&line);
	if (*line || disk >= disk_count || format > 15) {
		say(*line ? "?" : "failed, no such disk or format");
		return;
	}
	MediaSanitize *sanitize = protocol(disks[disk], &MEDIA_SANITIZE);
	PassThru *pass = protocol(owner(disks[disk]), &PASS_THRU);
	if (!sanitize || !pass) {
		say("unsupported");
		return;
	}
	identify = (Command) {.opcode = IDENTIFY};
	pass->namespace_of(pass, node(disks[disk], 3, 23) - sizeof(Node), &identify.namespace);
	Packet packet = {.timeout = PART_SECONDS * SECOND, .data = (void *)BUFFER, .length = TRANSFER, .command = &identify,
			 .completion = completion};
	Status status = pass->send(pass, identify.namespace, &packet, NULL);
	const uint8_t *formats = (const uint8_t *)BUFFER + 128;
	say_status(status >> 63 ? status : sanitize->format(sanitize, sanitize->media->id, formats[4 * format + 2], 0));
}

/* The protocol clears a whole disk; blocks of it cannot be asked for. */
static void clear_disk(const char *line)
{
	uint64_t disk = number(&line), lba = number(&line), blocks = number(&line);
	void *block = (void *)number(&line);
	if (*line || disk >= disk_count) {
		say(*line ? "?" : "failed, no such disk");
		return;
	}
	MediaSanitize *sanitize = protocol(disks[disk], &MEDIA_SANITIZE);
	if (!sanitize || lba || blocks != sanitize->media->last_block + 1) {
		say("unsupported");
		return;
	}
	say_status(sanitize->clear(sanitize, sanitize->media->id, 1, block));
}

static void use_disk(char operation, const char *line)
{
	uint64_t disk = number(&line), lba = number(&line), blocks = number(&line);
	void *address = (void *)number(&line);
	uint64_t parts = number(&line);
	if (*line || disk >= disk_count) {
		say(*line ? "?" : "failed, no such disk");
		return;
	}
	BlockIo *io = protocol(disks[disk], &BLOCK_IO);
	BlockIo2 *other = protocol(disks[disk], &BLOCK_IO_2);
	uint64_t bytes = blocks * io->media->block_size;
	bool transfer = operation == 'r' || operation == 'w';
	if (transfer)
		by_parts = parts && other;
	if (by_parts) {
		if (transfer)
			say_status(transfer_in_parts(other, operation == 'w', lba, blocks, address,
						     parts < MOST_PARTS ? parts : MOST_PARTS));
		else
			say_status(operation == 'f' ? flush_side_by_side(other) : other->reset(other, false));
		return;
	}
	switch (operation) {
	case 'r': say_status(io->read(io, io->media->id, lba, bytes, address)); break;
	case 'w': say_status(io->write(io, io->media->id, lba, bytes, address)); break;
	case 'f': say_status(io->flush(io)); break;
	default: say_status(io->reset(io, false));
	}
}

/* The status of the last failure, if any. A driver that refuses a function that is no NVMe I/O controller has not failed. */
static Status each_controller(bool connect)
{
	Status worst = 0;
	for (uint64_t n = 0; n < controller_count; n++) {
		Status status = connect ? boot->connect_controller(controllers[n], NULL, NULL, true)
					: boot->disconnect_controller(controllers[n], NULL, NULL);
		if (status >> 63 && configuration(controllers[n], 2, 8) >> 8 == IO_CONTROLLER)
			worst = status;
	}
	return worst;
}

/* Whether the function is a port with a slot. */
static bool has_slot(Handle handle)
{
	uint32_t at = configuration(handle, 0, 0x34);
	while (at && configuration(handle, 0, at) != PCI_EXPRESS)
		at = configuration(handle, 0, at + 1);
	return at && configuration(handle, 1, at + 2) & SLOT_IMPLEMENTED;
}

/* The firmware has no driver of its own for slots, so nothing else notifies its bus driver. */
static void follow_slots(void)
{
	Handle *ports, *buses, children[MOST];
	uint64_t count = located(&PCI_IO, &ports);
	uint8_t added = 0;
	if (located(&HOT_PLUG, &buses)) {
		HotPlug *bus = protocol(*buses, &HOT_PLUG);
		for (uint64_t n = 0; n < count; n++)
			if (has_slot(ports[n]))
				bus->notify(bus, HOT_PLUG_ADD, ports[n], NULL, &added, children);
		boot->free_pool(buses);
	}
	if (count)
		boot->free_pool(ports);
	find();
	say("functions ");
	say_number(controller_count, 2);
}

static const uint8_t *table(SystemTable *system, const Guid *guid)
{
	const uint64_t *wanted = (const void *)guid;
	for (uint64_t n = 0; n < system->table_count; n++) {
		const uint64_t *found = (const void *)&system->tables[n].guid;
		if (found[0] == wanted[0] && found[1] == wanted[1])
			return system->tables[n].table;
	}
	return NULL;
}

/* The next SMBIOS structure: behind this one and its strings, of which an empty one is the last. */
static const uint8_t *next(const uint8_t *structure)
{
	for (structure += structure[1]; structure[0] || structure[1]; structure++) { }
	return structure + 2;
}

/* The string of that number, from 1, behind an SMBIOS structure. */
static void say_string(const uint8_t *structure, uint8_t number)
{
	const char *at = (const char *)structure + structure[1];
	for (put(' '); number > 1 && *at; number--) {
		while (*at)
			at++;
		at++;
	}
	if (number)
		say(at);
}

static void say_firmware(SystemTable *system)
{
	const uint8_t *entry, *structure = NULL;
	say("firmware ");
	for (const uint16_t *at = system->vendor; at && *at; at++)
		put(*at < 0x7f ? (char)*at : '?');
	say(" revision ");
	say_number((uint32_t)system->revision, 8);
	if ((entry = table(system, &SMBIOS_3)))
		structure = (const uint8_t *)*(const uint64_t *)(entry + 0x10);
	else if ((entry = table(system, &SMBIOS)))
		structure = (const uint8_t *)(uint64_t)*(const uint32_t *)(entry + 0x18);
	while (structure && structure[0] != BIOS_INFORMATION && structure[0] != END_OF_TABLE)
		structure = next(structure);
	if (structure && structure[0] == BIOS_INFORMATION) {
		say(" bios");
		say_string(structure, structure[5]);
		say_string(structure, structure[8]);
	}
}

static void obey(SystemTable *system, const char *line)
{
	switch (*line) {
	case 'v': say_firmware(system); break;
	case 'h': follow_slots(); break;
	case 'i': show_controllers(); break;
	case 'l': show_disks(); break;
	case 'd': show_details(); break;
	case 'n': pass_command(line + 1); break;
	case 'r': case 'w': case 'f': case 'z': use_disk(*line, line + 1); break;
	case 'm': format_disk(line + 1); break;
	case 'e': clear_disk(line + 1); break;
	case 'u': say_status(each_controller(false)); break;
	case 'c': say_status(each_controller(true)); break;
	case 's': system->runtime->reset_system(RESET_SHUTDOWN, 0, 0, NULL); break;
	default: say("?");
	}
}

/* Timers of the firmware's own console would take bytes from the line, so none runs while a command is awaited. */
static void await(char *line, size_t size)
{
	uint64_t tpl = boot->raise_tpl(TPL_NOTIFY);
	size_t length = 0;
	say("\r\n> ");
	for (char c; (c = get(!length)) != '\n';)
		if (length < size - 1)
			line[length++] = c;
	line[length] = 0;
	boot->restore_tpl(tpl);
}

/*
 * Drivers wait in a loop, for CheckEvent or with Stall. One that has done so for LONG, since it last set a timer, waits for a
 * time-out. From then on these two halt the processor between ticks, and report and take the same time as before.
 */
static bool waits;
static int64_t slept;				/* microseconds more than was asked for */
static void *time_limit;				/* the timer that ends after LONG */
static Status (API *check_event)(void *event);
static Status (API *stall)(uint64_t microseconds);
static Status (API *set_timer)(void *event, uint64_t type, uint64_t time);

/* The firmware ends its timer's interrupt after all notifications of a tick; inside one, no further tick would wake us. */
static bool in_interrupt(void)
{
	return *(volatile const uint32_t *)PROCESSOR_PRIORITY != 0;
}

/* With interrupts off nothing would wake us either. */
static bool may_sleep(void)
{
	uint64_t flags;
	__asm__ volatile("pushfq; pop %0" : "=r"(flags));
	return waits && flags & INTERRUPTS_ON && !in_interrupt();
}

/* Notification of a tick. Other firmware may not give it; then nothing sleeps. */
static API void begin_to_sleep(void *event, void *context)
{
	(void)event, (void)context;
	waits = in_interrupt();
	slept = -TICK;				/* the first tick may come at once */
}

static void work(void)
{
	waits = false;
	set_timer(time_limit, TIMER_RELATIVE, LONG);
}

static API Status set_timer_awake(void *event, uint64_t type, uint64_t time)
{
	if (!in_interrupt())
		work();
	return set_timer(event, type, time);
}

static API Status check_event_asleep(void *event)
{
	if (may_sleep())
		sleep();
	return check_event(event);
}

static API Status stall_asleep(uint64_t microseconds)
{
	if (!may_sleep())
		return stall(microseconds);
	for (slept -= (int64_t)microseconds; slept < 0; slept += TICK)
		sleep();
	return 0;
}

static void let_drivers_sleep(void)
{
	check_event = boot->check_event;
	stall = boot->stall;
	set_timer = boot->set_timer;
	if (boot->create_event(TIMER | NOTIFY_SIGNAL, TPL_NOTIFY, begin_to_sleep, NULL, &time_limit) >> 63)
		return;
	boot->check_event = check_event_asleep;
	boot->stall = stall_asleep;
	boot->set_timer = set_timer_awake;
}

API Status main(Handle image, SystemTable *system)
{
	static char line[100];
	uint64_t buffer = BUFFER;
	(void)image;
	boot = system->boot;
	boot->set_watchdog_timer(0, 0, 0, NULL);
	if (boot->allocate_pages(ALLOCATE_ADDRESS, LOADER_DATA, BUFFER_PAGES, &buffer) >> 63)
		say("\r\nthe memory of the buffer is in use");
	let_drivers_sleep();
	for (;;) {
		find();
		await(line, sizeof line);
		work();
		obey(system, line);
	}
}

/* What the parts of this little kernel offer each other.
 *
 * Its shapes, by -D:
 *   STEPS=1 to 5    how much of the driver is built (nvme.c)
 *   DEBUG_CONSOLE   prints to QEMU's debug console, port E9h, instead of the serial line
 *   SCREEN          prints on the screen, in its text memory, and nowhere else
 *   KEYBOARD        reads a PS/2 keyboard instead of the serial line
 *   ONE_SHOT        runs all steps without input, prints the results, and ends QEMU with an exit code
 *   DEFECT_READY, DEFECT_PRP2   a mistake, to see the suite find it
 */
#ifndef HOBBY_H
#define HOBBY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef STEPS
#define STEPS 5
#endif

/* ports */
static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline void out32(uint16_t port, uint32_t value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port) { uint8_t v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline uint32_t in32(uint16_t port) { uint32_t v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

/* serial.c, keyboard.c */
void serial_start(void);
void serial_put(char character);
char serial_get(void);
char keyboard_get(void);

/* print.c: %s %c %u %x and their long forms, with a width and leading zeros: %08lx */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *memset(void *to, int byte, size_t length);

/* clock.c */
void clock_start(void);
uint64_t clock_ms(void);

/* pci.c */
struct pci_function { uint8_t bus, device, function; };
uint32_t pci_read(struct pci_function f, uint8_t offset);
void pci_write(struct pci_function f, uint8_t offset, uint32_t value);
void pci_scan(uint32_t class_code, void (*found)(struct pci_function f));
volatile uint8_t *pci_map_bar0(struct pci_function f);

/* nvme.c; what returns int returns 0, the completion's status (SCT in bits 10:8, SC in 7:0), or an error below 0 */
enum { MAX_CONTROLLERS = 4, MAX_NAMESPACES = 16 };

struct nvme_namespace {
    uint32_t id, block_size, metadata; /* bytes */
    uint64_t blocks;
};

struct nvme_queue {
    volatile uint32_t *sq, *cq; /* entries of 64 and 16 bytes */
    uint16_t id, entries, tail, head, next_cid;
    bool phase;
};

struct nvme_controller {
    struct pci_function where;
    volatile uint8_t *registers;
    int status;      /* how its start ended */
    uint64_t cap;    /* the registers of these names */
    uint32_t version;
    bool ready;
    struct nvme_queue admin, io;
    char serial[21], model[41], firmware[9];
    uint16_t vendor;
    uint32_t limit;  /* bytes that a command may move; 0: any number */
    int namespaces;
    struct nvme_namespace namespace[MAX_NAMESPACES];
};

extern struct nvme_controller nvme_controllers[MAX_CONTROLLERS];
extern int nvme_count;

void nvme_load(int steps);
int nvme_identify_namespaces(struct nvme_controller *c);
int nvme_noop(uint32_t nsid);
int nvme_read(uint32_t nsid, uint64_t lba, uint64_t blocks, uint64_t address);
const char *nvme_error(int status);

#endif

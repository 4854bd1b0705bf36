/* PCI configuration space by ports CF8h and CFCh, the search for functions, and BAR0. PCI Local Bus 3.0, 6.1 and 6.2. */
#include "hobby.h"

enum { CONFIG_ADDRESS = 0xCF8, CONFIG_DATA = 0xCFC };
enum { ID = 0x00, COMMAND = 0x04, CLASS = 0x08, HEADER_TYPE = 0x0C, BAR0 = 0x10, BUS_NUMBERS = 0x18 };
enum { MEMORY_SPACE = 1 << 1, BUS_MASTER = 1 << 2, NO_INTX = 1 << 10 }; /* Command */
enum { IS_BRIDGE = 0x01 << 16, MULTIFUNCTION = 0x80 << 16 };            /* Header Type, in its dword */
enum { BAR_64_BIT = 0x4 };

static uint32_t address(struct pci_function f, uint8_t offset) {
    return 0x80000000 | f.bus << 16 | f.device << 11 | f.function << 8 | offset;
}

uint32_t pci_read(struct pci_function f, uint8_t offset) {
    out32(CONFIG_ADDRESS, address(f, offset));
    return in32(CONFIG_DATA);
}

void pci_write(struct pci_function f, uint8_t offset, uint32_t value) {
    out32(CONFIG_ADDRESS, address(f, offset));
    out32(CONFIG_DATA, value);
}

static void scan_bus(uint8_t bus, uint32_t class_code, void (*found)(struct pci_function f)) {
    for (int device = 0; device < 32; device++) {
        for (int function = 0; function < 8; function++) {
            struct pci_function f = {bus, device, function};
            if (pci_read(f, ID) == 0xFFFFFFFF) {
                if (function == 0)
                    break;
                continue;
            }
            uint32_t type = pci_read(f, HEADER_TYPE);
            uint8_t behind = pci_read(f, BUS_NUMBERS) >> 8; /* a bridge's secondary bus */
            if (type & IS_BRIDGE && behind > bus)
                scan_bus(behind, class_code, found);
            else if (pci_read(f, CLASS) >> 8 == class_code)
                found(f);
            if (function == 0 && !(type & MULTIFUNCTION))
                break;
        }
    }
}

/* Calls `found` for every function of this class code (base class, sub-class, programming interface). */
void pci_scan(uint32_t class_code, void (*found)(struct pci_function f)) { scan_bus(0, class_code, found); }

/* Maps 1 GiB at `physical` where it is, uncached. start.S has mapped the first 512 GiB already, cached as the firmware says. */
static void map(uint64_t physical) {
    enum { PRESENT = 0x01, WRITABLE = 0x02, UNCACHED = 0x18, LARGE = 0x80 };
    extern uint64_t pml4[512];
    static uint64_t high_map[512] __attribute__((aligned(4096)));
    uint64_t *slot = &pml4[physical >> 39 & 511];
    if (!*slot)
        *slot = (uint64_t)high_map | PRESENT | WRITABLE;
    uint64_t *table = (uint64_t *)(*slot & ~0xFFFUL);
    table[physical >> 30 & 511] = (physical & ~0x3FFFFFFFUL) | PRESENT | WRITABLE | UNCACHED | LARGE;
    __asm__ volatile("invlpg (%0)" ::"r"(physical) : "memory");
}

/* Lets the function answer at BAR0 and reach for memory, and maps BAR0. NULL if the firmware has given it no address. */
volatile uint8_t *pci_map_bar0(struct pci_function f) {
    uint32_t low = pci_read(f, BAR0);
    uint64_t base = low & ~0xFU;
    if (low & BAR_64_BIT)
        base |= (uint64_t)pci_read(f, BAR0 + 4) << 32;
    if (!base)
        return NULL;
    /* The upper half of this dword is Status, whose bits are cleared by writing 1: 0 leaves them alone. */
    pci_write(f, COMMAND, (pci_read(f, COMMAND) & 0xFFFF) | MEMORY_SPACE | BUS_MASTER | NO_INTX);
    map(base);
    return (volatile uint8_t *)base;
}

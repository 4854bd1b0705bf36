/* An NVMe driver in five steps, each of which can be built and judged before the next exists (STEPS, hobby.h):
 *
 *   1  detect        find the controller, map its registers, read them
 *   2  admin-queue   give it an admin queue and wait until it is ready
 *   3  identify      read the controller's and the namespaces' data
 *   4  io-queues     create a pair of I/O queues
 *   5  read          read blocks
 *
 * What is built goes through all of its steps, or stops after the one that nvme_load is given.
 *
 * It polls and has one command in flight at a time. Sections are those of the NVM Express Base Specification 2.0 ("Base"), the
 * NVM Command Set Specification 1.0 ("NVM") and the NVMe over PCIe Transport Specification 1.0 ("PCIe").
 */
#include "hobby.h"

enum { PAGE = 4096, ADMIN_ENTRIES = 16, IO_ENTRIES = 64, COMMAND_MS = 5000, MAX_TRANSFER = 1 << 20 };

enum { SUCCESS = 0, NO_BAR = -1, GONE = -2, UNFIT = -3, NEVER_READY = -4, FATAL = -5, SILENT = -6, NOT_READY = -7, NO_DISK = -8,
       BEYOND = -9, UNALIGNED = -10, METADATA = -11 };

const char *nvme_error(int status) {
    static const char *const words[] = {
        [-NO_BAR] = "BAR0 has no address", [-GONE] = "the device is gone", [-UNFIT] = "it lacks the NVM command set or 4 KiB pages",
        [-NEVER_READY] = "it does not become ready", [-FATAL] = "it reports a fatal status", [-SILENT] = "a command was not answered",
        [-NOT_READY] = "the controller is not in use", [-NO_DISK] = "there is no such disk", [-BEYOND] = "that is beyond the disk's end",
        [-UNALIGNED] = "the buffer does not begin at a dword", [-METADATA] = "the disk's format has metadata",
    };
    return words[-status];
}

struct nvme_controller nvme_controllers[MAX_CONTROLLERS];
int nvme_count;

/* Memory that controllers reach for. It is mapped as it is, so a pointer is a physical address. */
static struct memory {
    uint8_t admin_sq[PAGE], admin_cq[PAGE], io_sq[PAGE], io_cq[PAGE], identify[PAGE];
    uint64_t prp_list[PAGE / 8];
} __attribute__((aligned(PAGE))) memory[MAX_CONTROLLERS];

static inline struct memory *memory_of(struct nvme_controller *c) { return &memory[c - nvme_controllers]; }

/* -- Step 1, detect: Base 3.1.3 "Controller Properties" -------------------------------------------------------------------- */

enum { CAP = 0x00, VS = 0x08, CC = 0x14, CSTS = 0x1C, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, DOORBELLS = 0x1000 };
enum { NVME_CLASS = 0x010802 }; /* mass storage, non-volatile memory, NVM Express I/O controller */

static uint32_t read32(struct nvme_controller *c, uint32_t offset) { return *(volatile uint32_t *)(c->registers + offset); }
static inline void write32(struct nvme_controller *c, uint32_t offset, uint32_t v) { *(volatile uint32_t *)(c->registers + offset) = v; }

/* A 64-bit property as two dwords, which every machine can do. */
static uint64_t read64(struct nvme_controller *c, uint32_t offset) {
    return read32(c, offset) | (uint64_t)read32(c, offset + 4) << 32;
}

static int detect(struct nvme_controller *c) {
    c->registers = pci_map_bar0(c->where);
    if (!c->registers)
        return NO_BAR;
    c->version = read32(c, VS);
    if (c->version == 0xFFFFFFFF) /* what is not there reads all ones */
        return GONE;
    c->cap = read64(c, CAP);
    bool nvm = c->cap >> 37 & 1;            /* CAP.CSS is a bitmap: others may be set as well */
    uint8_t smallest = c->cap >> 48 & 0xF;  /* CAP.MPSMIN: pages of 4096 << n */
    return nvm && smallest == 0 ? SUCCESS : UNFIT;
}

/* -- Step 2, admin queue: Base 3.5.1 "Memory-based Controller Initialization" ---------------------------------------------- */
#if STEPS >= 2

enum { CC_EN = 1, CC_CSS_ALL = 6 << 4, CC_IOSQES = 6 << 16, CC_IOCQES = 4 << 20 }; /* I/O entries of 2^6 and 2^4 bytes */
enum { CSTS_RDY = 1, CSTS_CFS = 2 };

static int wait_ready(struct nvme_controller *c, bool wanted) {
    uint64_t until = clock_ms() + (c->cap >> 24 & 0xFF) * 500 + 1; /* CAP.TO */
    for (;;) {
        bool late = clock_ms() > until; /* read first: a delayed caller still looks at the queue once more */
        uint32_t csts = read32(c, CSTS);
        if (csts == 0xFFFFFFFF)
            return GONE;
        if (wanted && csts & CSTS_CFS)
            return FATAL;
        if ((csts & CSTS_RDY) == wanted)
            return SUCCESS;
        if (late)
            return NEVER_READY;
    }
}

/* Empty rings. The phase tags in a completion queue must be 0, for the controller's first round writes 1: Base 3.3.1. */
static void prepare(struct nvme_queue *q, uint16_t id, uint16_t entries, void *sq, void *cq) {
    *q = (struct nvme_queue){.id = id, .entries = entries, .sq = sq, .cq = cq, .phase = true};
    memset(sq, 0, PAGE);
    memset(cq, 0, PAGE);
}

static int start(struct nvme_controller *c) {
    struct memory *m = memory_of(c);
    int status;
    write32(c, CC, read32(c, CC) & ~CC_EN); /* the firmware may have used it */
    if ((status = wait_ready(c, false)))
        return status;
    prepare(&c->admin, 0, ADMIN_ENTRIES, m->admin_sq, m->admin_cq);
    write32(c, AQA, (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1)); /* 0's based */
    write32(c, ASQ, (uint64_t)m->admin_sq);
    write32(c, ASQ + 4, (uint64_t)m->admin_sq >> 32);
    write32(c, ACQ, (uint64_t)m->admin_cq);
    write32(c, ACQ + 4, (uint64_t)m->admin_cq >> 32);
    uint32_t sets = c->cap >> 43 & 1 ? CC_CSS_ALL : 0; /* CAP.CSS bit 6: several command sets, all to be enabled */
    write32(c, CC, CC_EN | sets | CC_IOSQES | CC_IOCQES); /* MPS 0: pages of 4 KiB, AMS 0: round robin */
#ifdef DEFECT_READY
    return SUCCESS;
#endif
    return wait_ready(c, true);
}
#endif

/* -- Commands: Base 3.3.1 "Memory-based Transport Queue Model", 3.3.3 "Queueing Data Structures" ---------------------------- */
#if STEPS >= 3

struct command {
    uint32_t cdw0, nsid, cdw2, cdw3;
    uint64_t mptr, prp1, prp2;
    uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct command) == 64, "a submission queue entry has 64 bytes");

/* PCIe 3.1.2: the tail of submission queue y, and behind it the head of completion queue y; CAP.DSTRD gives the distance. */
static void ring(struct nvme_controller *c, struct nvme_queue *q, bool completion, uint16_t value) {
    uint32_t stride = 4 << (c->cap >> 32 & 0xF);
    __asm__ volatile("" ::: "memory"); /* what the entry points to has been written; x86 keeps that order */
    write32(c, DOORBELLS + (2 * q->id + completion) * stride, value);
}

/* Submits the command and waits for its completion: its status, and its dword 0 in `result`. */
static int execute(struct nvme_controller *c, struct nvme_queue *q, struct command command, uint32_t *result) {
    if (!c->ready || !q->entries)
        return NOT_READY;
    uint16_t cid = q->next_cid++;
    command.cdw0 |= cid << 16;
    for (int i = 0; i < 16; i++)
        q->sq[q->tail * 16 + i] = ((const uint32_t *)&command)[i];
    q->tail = (q->tail + 1) % q->entries; /* with one command in flight the ring is never full */
    ring(c, q, false, q->tail);

    uint64_t until = clock_ms() + COMMAND_MS;
    for (;;) {
        bool late = clock_ms() > until;
        volatile uint32_t *entry = &q->cq[q->head * 4];
        uint32_t last = entry[3]; /* CID in bits 15:0, phase tag in bit 16, status above: Base 3.3.3.2 */
        if ((last >> 16 & 1) != q->phase) {
            if (late) {
                c->ready = false; /* it may still write to our memory: nothing more is sent */
                return SILENT;
            }
            continue;
        }
        __asm__ volatile("" ::: "memory");
        uint32_t dword0 = entry[0];
        if (++q->head == q->entries) {
            q->head = 0;
            q->phase = !q->phase;
        }
        ring(c, q, true, q->head);
        if ((last & 0xFFFF) != cid)
            continue; /* nothing of ours */
        if (result)
            *result = dword0;
        return last >> 17 & 0x7FF;
    }
}

/* -- Step 3, identify: Base 5.17 "Identify command"; NVM 4.1.5.1 "Identify Namespace data structure" ----------------------- */

enum { IDENTIFY = 0x06, CNS_NAMESPACE = 0, CNS_CONTROLLER = 1, CNS_ACTIVE_NAMESPACES = 2 };

static int identify(struct nvme_controller *c, uint32_t cns, uint32_t nsid) {
    struct command command = {.cdw0 = IDENTIFY, .nsid = nsid, .prp1 = (uint64_t)memory_of(c)->identify, .cdw10 = cns};
    memset(memory_of(c)->identify, 0, PAGE);
    return execute(c, &c->admin, command, NULL);
}

/* ASCII, padded with spaces, without a terminator. */
static void copy_text(char *to, const uint8_t *from, int length) {
    for (int i = 0; i < length; i++)
        to[i] = from[i];
    to[length] = 0;
}

static int identify_controller(struct nvme_controller *c, uint32_t *highest_nsid) {
    const uint8_t *data = memory_of(c)->identify;
    int status = identify(c, CNS_CONTROLLER, 0);
    if (status)
        return status;
    c->vendor = *(const uint16_t *)data;
    copy_text(c->serial, data + 4, 20);
    copy_text(c->model, data + 24, 40);
    copy_text(c->firmware, data + 64, 8);
    uint8_t mdts = data[77]; /* 0: no limit; else 2^n pages of the smallest size */
    c->limit = mdts == 0 || mdts > 19 ? 0 : PAGE << mdts;
    *highest_nsid = *(const uint32_t *)(data + 516);
    return SUCCESS;
}

static int identify_namespace(struct nvme_controller *c, uint32_t nsid) {
    const uint8_t *data = memory_of(c)->identify;
    int status = identify(c, CNS_NAMESPACE, nsid);
    if (status)
        return status;
    uint64_t blocks = *(const uint64_t *)data; /* NSZE; 0 for an inactive namespace */
    uint8_t flbas = data[26];
    int format = (flbas & 0xF) | (flbas >> 5 & 3) << 4;
    uint32_t lbaf = *(const uint32_t *)(data + 128 + 4 * format); /* MS in bits 15:0, LBADS in 23:16 */
    uint8_t shift = lbaf >> 16 & 0xFF;
    if (blocks && shift >= 9 && shift <= 16 && c->namespaces < MAX_NAMESPACES)
        c->namespace[c->namespaces++] =
            (struct nvme_namespace){.id = nsid, .block_size = 1 << shift, .metadata = lbaf & 0xFFFF, .blocks = blocks};
    return SUCCESS;
}

int nvme_identify_namespaces(struct nvme_controller *c) {
    static uint32_t active[PAGE / 4];
    uint32_t highest;
    int status;
    c->namespaces = 0;
    if ((status = identify_controller(c, &highest)))
        return status;
    memset(active, 0, sizeof active);
    if (c->version >= 0x00010100) { /* 1.1 brought the list of active namespaces */
        if ((status = identify(c, CNS_ACTIVE_NAMESPACES, 0)))
            return status;
        for (int i = 0; i < PAGE / 4; i++)
            active[i] = ((const uint32_t *)memory_of(c)->identify)[i];
    } else {
        for (uint32_t i = 0; i < PAGE / 4 && i < highest; i++)
            active[i] = i + 1;
    }
    for (int i = 0; i < PAGE / 4 && active[i]; i++)
        if ((status = identify_namespace(c, active[i])))
            return status;
    return SUCCESS;
}
#endif

/* -- Step 4, I/O queues: Base 5.4 "Create I/O Completion Queue", 5.5 "Create I/O Submission Queue", 5.27.1.5 ---------------- */
#if STEPS >= 4

enum { CREATE_SQ = 0x01, CREATE_CQ = 0x05, SET_FEATURES = 0x09, NUMBER_OF_QUEUES = 0x07, FLUSH = 0x00, QUEUE = 1, CONTIGUOUS = 1 };

static int create_queues(struct nvme_controller *c) {
    struct memory *m = memory_of(c);
    uint32_t most = (c->cap & 0xFFFF) + 1; /* CAP.MQES is 0's based: FFFFh is 65536, more than 16 bits hold */
    uint16_t entries = most < IO_ENTRIES ? most : IO_ENTRIES;
    uint32_t size = (uint32_t)(entries - 1) << 16 | QUEUE;
    int status;
    /* One pair, 0's based; whatever is granted, it is at least that. */
    struct command number = {.cdw0 = SET_FEATURES, .cdw10 = NUMBER_OF_QUEUES, .cdw11 = 0};
    if ((status = execute(c, &c->admin, number, NULL)))
        return status;
    prepare(&c->io, QUEUE, entries, m->io_sq, m->io_cq);
    struct command cq = {.cdw0 = CREATE_CQ, .prp1 = (uint64_t)m->io_cq, .cdw10 = size, .cdw11 = CONTIGUOUS}; /* no interrupts */
    struct command sq = {.cdw0 = CREATE_SQ, .prp1 = (uint64_t)m->io_sq, .cdw10 = size, .cdw11 = QUEUE << 16 | CONTIGUOUS};
    if ((status = execute(c, &c->admin, cq, NULL)) || (status = execute(c, &c->admin, sq, NULL)))
        c->io.entries = 0; /* it does not exist: it must not be used */
    return status;
}

static struct nvme_namespace *find(uint32_t nsid, struct nvme_controller **owner) {
    for (struct nvme_controller *c = nvme_controllers; c < nvme_controllers + nvme_count; c++)
        for (int i = 0; i < c->namespaces; i++)
            if (c->namespace[i].id == nsid) {
                *owner = c;
                return &c->namespace[i];
            }
    return NULL;
}

/* A command without data. */
int nvme_noop(uint32_t nsid) {
    struct nvme_controller *c;
    if (!find(nsid, &c))
        return NO_DISK;
    return execute(c, &c->io, (struct command){.cdw0 = FLUSH, .nsid = nsid}, NULL);
}
#endif

/* -- Step 5, read: NVM 3.2.4 "Read command"; Base 4.1.1 "Physical Region Page Entry and List" ------------------------------- */
#if STEPS >= 5

enum { READ = 0x02 };

/* PRP1 is where the data begins, anywhere in a page. PRP2 is 0 if it ends there, the next page if it ends in that one, and else
 * a list of all further pages. A list page describes 2 MiB, which is more than MAX_TRANSFER. */
static void describe(struct nvme_controller *c, struct command *command, uint64_t address, uint64_t bytes) {
    uint64_t *list = memory_of(c)->prp_list;
    uint64_t page = (address & ~(uint64_t)(PAGE - 1)) + PAGE;
    int more = 0;
    for (; page < address + bytes; page += PAGE)
        list[more++] = page;
    command->prp1 = address;
    command->prp2 = more == 0 ? 0 : more == 1 ? list[0] : (uint64_t)list;
#ifdef DEFECT_PRP2
    command->prp2 = (uint64_t)list;
#endif
}

int nvme_read(uint32_t nsid, uint64_t lba, uint64_t blocks, uint64_t address) {
    struct nvme_controller *c;
    struct nvme_namespace *n = find(nsid, &c);
    if (!n)
        return NO_DISK;
    if (n->metadata)
        return METADATA;
    if (lba >= n->blocks || blocks > n->blocks - lba)
        return BEYOND;
    if (address % 4)
        return UNALIGNED;
    uint32_t limit = c->limit && c->limit < MAX_TRANSFER ? c->limit : MAX_TRANSFER;
    while (blocks) {
        uint64_t now = blocks < limit / n->block_size ? blocks : limit / n->block_size;
        struct command command = {.cdw0 = READ, .nsid = nsid, .cdw10 = lba, .cdw11 = lba >> 32, .cdw12 = now - 1}; /* NLB: 0's based */
        describe(c, &command, address, now * n->block_size);
        int status = execute(c, &c->io, command, NULL);
        if (status)
            return status;
        lba += now;
        blocks -= now;
        address += now * n->block_size;
    }
    return SUCCESS;
}
#endif

/* -- All that is built, one step after the other ---------------------------------------------------------------------------- */

static int wanted; /* how many steps */

static int bring_up(struct nvme_controller *c) {
    int status = detect(c);
#if STEPS >= 2
    if (!status && wanted >= 2) {
        status = start(c);
        c->ready = !status;
    }
#endif
#if STEPS >= 3
    if (!status && wanted >= 3)
        status = nvme_identify_namespaces(c);
#endif
#if STEPS >= 4
    if (!status && wanted >= 4)
        status = create_queues(c);
#endif
    return status;
}

static void found(struct pci_function where) {
    if (nvme_count == MAX_CONTROLLERS)
        return;
    struct nvme_controller *c = &nvme_controllers[nvme_count++];
    *c = (struct nvme_controller){.where = where};
    c->status = bring_up(c);
}

void nvme_load(int steps) {
    wanted = steps;
    nvme_count = 0;
    pci_scan(NVME_CLASS, found);
}

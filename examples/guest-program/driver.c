/* An NVMe driver in user space: one admin queue and one I/O queue pair, polled. To be copied.
 *
 * It reaches the controller as NVME_ACCESS says: by "vfio", by "vfio-noiommu", or by "sysfs". The last two have no IOMMU, so
 * addresses for the controller are physical ones, in a huge page that stays where it is.
 *
 * gcc -static -O2 -Wall -Wextra -o driver driver.c
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "nvme_lab.h"

enum { PAGE = 4096, ENTRIES = 32, TRANSFER = 64 * PAGE, HUGE_PAGE = 2 << 20 };
enum { ASQ_AT = 0, ACQ_AT = PAGE, SQ_AT = 2 * PAGE, CQ_AT = 3 * PAGE, DATA_AT = 4 * PAGE, LIST_AT = 5 * PAGE,
       BUFFER_AT = 6 * PAGE, MEMORY = BUFFER_AT + TRANSFER };

struct command { uint32_t dw0, nsid, dw2, dw3; uint64_t mptr, prp1, prp2; uint32_t dw10, dw11, dw12, dw13, dw14, dw15; };
struct completion { uint32_t dw0, dw1; uint16_t sqhd, sqid, cid, status; };
struct queue { volatile struct command *sq; volatile struct completion *cq; unsigned id, entries, tail, head, phase, cid; };

static const char *failure;             /* in words; NULL if a status is in `status` */
static unsigned status;
static int device = -1, loaded;         /* `device`: its configuration space is at `config` in that file */
static volatile uint8_t *bar;
static uint8_t *memory;
static uint64_t config, iova = 0x100000; /* `iova`: where the controller sees `memory` */
static unsigned stride, max_transfer;
static struct queue admin, io;

static uint32_t get(unsigned offset) { return *(volatile uint32_t *)(bar + offset); }
static void put(unsigned offset, uint32_t value) { *(volatile uint32_t *)(bar + offset) = value; }
static void put64(unsigned offset, uint64_t value) { put(offset, (uint32_t)value); put(offset + 4, (uint32_t)(value >> 32)); }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int fail(const char *words) { failure = words; return -1; }

static int wait_ready(unsigned ready, double seconds)
{
    for (double end = now() + seconds; now() < end; usleep(1000)) {
        uint32_t csts = get(0x1c);
        if (csts == 0xffffffff)
            return fail("the controller is gone");
        if (csts & 2)
            return fail("the controller reports a fatal status");
        if ((csts & 1) == ready)
            return 0;
    }
    return fail("the controller does not change CSTS.RDY in time");
}

/* Sends a command and waits for its completion; 0, or -1 with `failure` or `status`. */
static int run(struct queue *q, struct command command)
{
    failure = NULL, status = 0;
    command.dw0 = (command.dw0 & 0xffff) | (uint32_t)(++q->cid & 0xffff) << 16;
    memcpy((void *)&q->sq[q->tail], &command, sizeof command);
    q->tail = (q->tail + 1) % q->entries;
    __sync_synchronize();
    put(0x1000 + 2 * q->id * stride, q->tail);
    for (double end = now() + 5;;) {
        volatile struct completion *c = &q->cq[q->head];
        if ((c->status & 1) == q->phase) {
            __sync_synchronize();
            unsigned found = c->status >> 1, cid = c->cid;
            if (++q->head == q->entries)
                q->head = 0, q->phase ^= 1;
            put(0x1000 + (2 * q->id + 1) * stride, q->head);
            if (cid != (q->cid & 0xffff))
                continue;
            status = found & 0x7ff;
            return status ? -1 : 0;
        }
        if (now() > end)
            return loaded = 0, fail("the command was given up after 5 s");
    }
}

static void set_up(struct queue *q, unsigned id, unsigned entries, unsigned sq, unsigned cq)
{
    memset(memory + sq, 0, PAGE), memset(memory + cq, 0, PAGE);
    *q = (struct queue){ (void *)(memory + sq), (void *)(memory + cq), id, entries, 0, 0, 1, 0 };
}

/* Maps memory that has one physical address, and finds that out. */
static int map_physical(void)
{
    uint64_t entry = 0;
    memory = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        return fail("there is no huge page");
    int pages = open("/proc/self/pagemap", O_RDONLY);
    ssize_t got = pread(pages, &entry, sizeof entry, (uintptr_t)memory / PAGE * sizeof entry);
    close(pages);
    iova = (entry & ((1ull << 55) - 1)) * PAGE;           /* bits 54:0: the page's number; 0 for who may not know it */
    return got == sizeof entry && iova ? 0 : fail("the physical address of a page cannot be found out");
}

/* Maps memory and shows it to the controller at `iova`. */
static int map_by_iommu(int container)
{
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return fail("there is no memory");
    struct vfio_iommu_type1_dma_map map = { .argsz = sizeof map, .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                            .vaddr = (uintptr_t)memory, .iova = iova, .size = MEMORY };
    return ioctl(container, VFIO_IOMMU_MAP_DMA, &map) ? fail("memory cannot be mapped for the controller") : 0;
}

static int open_by_sysfs(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource0", name);
    int registers = open(path, O_RDWR);
    bar = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, registers, 0);
    close(registers);
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/config", name);
    if (bar == MAP_FAILED || (device = open(path, O_RDWR)) < 0)
        return fail("the controller cannot be opened");
    return map_physical();
}

static int open_by_vfio(const char *name, int iommu)
{
    char path[256], link[256];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", name);
    ssize_t length = readlink(path, link, sizeof link - 1);
    if (length < 0)
        return fail("the controller is in no IOMMU group");
    link[length] = 0;
    snprintf(path, sizeof path, "/dev/vfio/%s%s", iommu ? "" : "noiommu-", strrchr(link, '/') + 1);
    int container = open("/dev/vfio/vfio", O_RDWR), group = open(path, O_RDWR);
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
        ioctl(container, VFIO_SET_IOMMU, iommu ? VFIO_TYPE1_IOMMU : VFIO_NOIOMMU_IOMMU))
        return fail("the VFIO group cannot be used");
    if ((device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name)) < 0)
        return fail("the VFIO device cannot be opened");
    struct vfio_region_info region = { .argsz = sizeof region, .index = VFIO_PCI_CONFIG_REGION_INDEX };
    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region);
    config = region.offset;
    region = (struct vfio_region_info){ .argsz = sizeof region, .index = VFIO_PCI_BAR0_REGION_INDEX };
    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region);
    bar = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, region.offset);
    if (bar == MAP_FAILED)
        return fail("the registers cannot be mapped");
    return iommu ? map_by_iommu(container) : map_physical();
}

static int open_device(void)
{
    const char *addresses = getenv("NVME_ADDRESSES"), *access = getenv("NVME_ACCESS");
    char name[64];
    if (!addresses || sscanf(addresses, "%63s", name) != 1)
        return fail("there is no NVMe controller");
    if (access && !strcmp(access, "sysfs"))
        return open_by_sysfs(name);
    return open_by_vfio(name, !access || strcmp(access, "vfio-noiommu"));
}

static int load(void)
{
    if (device < 0 && open_device())
        return device = -1;
    uint16_t control = 0;
    pread(device, &control, 2, config + 4);
    control |= 6;                       /* memory space, bus master */
    pwrite(device, &control, 2, config + 4);
    uint32_t low = get(0), high = get(4);
    unsigned entries = (low & 0xffff) + 1 < ENTRIES ? (low & 0xffff) + 1 : ENTRIES;
    double timeout = (low >> 24) * 0.5 + 0.5;
    if (low == 0xffffffff)
        return fail("the controller is gone");
    if (high >> 16 & 0xf)
        return fail("the controller takes no pages of 4 KiB");
    stride = 4u << (high & 0xf);
    if (get(0x14) & 1) {
        if (!(get(0x1c) & 1) && wait_ready(1, timeout))
            return -1;
        put(0x14, get(0x14) & ~1u);
    }
    if (wait_ready(0, timeout))
        return -1;
    set_up(&admin, 0, ENTRIES, ASQ_AT, ACQ_AT);
    put(0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    put64(0x28, iova + ASQ_AT);
    put64(0x30, iova + ACQ_AT);
    unsigned css = high >> 5 & 0x40 ? 6 : 0;      /* CAP.CSS bit 6: several command sets */
    put(0x14, 4 << 20 | 6 << 16 | css << 4 | 1);
    if (wait_ready(1, timeout))
        return -1;
    if (run(&admin, (struct command){ .dw0 = 6, .prp1 = iova + DATA_AT, .dw10 = 1 }))      /* Identify Controller */
        return -1;
    unsigned mdts = memory[DATA_AT + 77];
    max_transfer = mdts && mdts < 6 ? PAGE << mdts : TRANSFER;
    if (run(&admin, (struct command){ .dw0 = 9, .dw10 = 7 }))                              /* Number of Queues: one pair */
        return -1;
    set_up(&io, 1, entries, SQ_AT, CQ_AT);
    if (run(&admin, (struct command){ .dw0 = 5, .prp1 = iova + CQ_AT, .dw10 = (entries - 1) << 16 | 1, .dw11 = 1 }) ||
        run(&admin, (struct command){ .dw0 = 1, .prp1 = iova + SQ_AT, .dw10 = (entries - 1) << 16 | 1, .dw11 = 1 << 16 | 1 }))
        return -1;
    return loaded = 1, 0;
}

static void unload(void)
{
    if (loaded) {
        put(0x14, (get(0x14) & ~0xc000u) | 0x4000);       /* a normal shutdown */
        for (double end = now() + 5; (get(0x1c) >> 2 & 3) != 2 && now() < end; usleep(1000))
            ;
        put(0x14, get(0x14) & ~1u);
        wait_ready(0, 5);
    }
    loaded = 0;
}

/* Moves blocks between `data` and the namespace in pieces that MDTS allows. */
static int transfer(unsigned opcode, const struct nl_request *request, uint8_t *data)
{
    unsigned nsid = nl_number(request, "nsid", 1);
    uint64_t lba = nl_number(request, "lba", 0), blocks = nl_number(request, "blocks", 1);
    if (run(&admin, (struct command){ .dw0 = 6, .nsid = nsid, .prp1 = iova + DATA_AT }))
        return -1;
    uint32_t format;
    memcpy(&format, memory + DATA_AT + 128 + 4 * (memory[DATA_AT + 26] & 0xf), 4);
    unsigned shift = format >> 16 & 0xff;
    if (!shift || format & 0xffff)
        return fail("the format has metadata, or is none");
    while (blocks) {
        uint64_t now_blocks = blocks << shift > max_transfer ? max_transfer >> shift : blocks;
        size_t bytes = now_blocks << shift;
        struct command command = { .dw0 = opcode, .nsid = nsid, .prp1 = iova + BUFFER_AT, .dw10 = (uint32_t)lba,
                                   .dw11 = (uint32_t)(lba >> 32), .dw12 = (uint32_t)(now_blocks - 1) };
        if (opcode == 1)
            memcpy(memory + BUFFER_AT, data, bytes), command.dw12 |= (nl_number(request, "fua", 0) ? 1u : 0u) << 30;
        if (bytes > 2 * PAGE)
            command.prp2 = iova + LIST_AT;
        else if (bytes > PAGE)
            command.prp2 = iova + BUFFER_AT + PAGE;
        for (size_t page = 1; page * PAGE < bytes && bytes > 2 * PAGE; page++)
            ((volatile uint64_t *)(memory + LIST_AT))[page - 1] = iova + BUFFER_AT + page * PAGE;
        if (run(&io, command))
            return -1;
        if (opcode == 2)
            memcpy(data, memory + BUFFER_AT, bytes);
        data += bytes, lba += now_blocks, blocks -= now_blocks;
    }
    return 0;
}

static void answer(int result)
{
    if (!result)
        nl_fields("{}");
    else if (failure)
        nl_words(failure);
    else
        nl_status(status >> 8 & 7, status & 0xff);
}

int main(void)
{
    static struct nl_request request;
    while (nl_next(&request)) {
        failure = NULL;
        size_t bytes = nl_number(&request, "blocks", 0) * nl_number(&request, "block_size", 512);
        if (nl_is(&request, "load")) {
            answer(load());
        } else if (nl_is(&request, "ready")) {
            nl_fields(loaded && get(0x1c) & 1 ? "{\"ready\": true}" : "{\"ready\": false}");
        } else if (!loaded) {
            nl_words("the driver is not loaded");
        } else if (nl_number(&request, "place", 0) || nl_number(&request, "offset", 0)) {
            nl_unsupported();
        } else if (nl_is(&request, "unload")) {
            unload();
            nl_fields("{}");
        } else if (nl_is(&request, "read")) {
            uint8_t *data = malloc(bytes);
            int result = transfer(2, &request, data);
            if (result)
                answer(result);
            else
                nl_data(data, bytes);
            free(data);
        } else if (nl_is(&request, "write")) {
            answer(transfer(1, &request, request.data));
        } else if (nl_is(&request, "flush")) {
            answer(run(&io, (struct command){ .dw0 = 0, .nsid = nl_number(&request, "nsid", 1) }));
        } else {
            nl_unsupported();
        }
    }
    unload();
    return 0;
}

/* A test of a driver's first three steps against the programmable controller: reset, admin queue, Identify.
 *
 *   cc -o ready ready.c vfio_user.c && ./ready SOCKET
 */
#include "vfio_user.h"

#include <stdio.h>
#include <string.h>

enum { CAP = 0x00, VS = 0x08, CC = 0x14, CSTS = 0x1C, AQA = 0x24, ASQ = 0x28, ACQ = 0x30, DOORBELLS = 0x1000 };
enum { SQ = 0x1000, CQ = 0x2000, DATA = 0x3000, ENTRIES = 16, IDENTIFY = 0x06, CNS_CONTROLLER = 1 };
enum { COMMAND = 4, MEMORY_AND_BUS_MASTER = 6 };

static void wait_ready(struct device *device, uint32_t ready)
{
    while ((read32(device, CSTS) & 1) != ready)
        ;  /* the device's time-out is CAP.TO; a driver gives up then */
}

int main(int argc, char **argv)
{
    struct device device;
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
        return 2;
    }
    device_open(&device, argv[1], 1 << 20);
    uint16_t command = MEMORY_AND_BUS_MASTER;
    region_write(&device, CONFIG, COMMAND, &command, sizeof command);

    write32(&device, CC, read32(&device, CC) & ~1u);
    wait_ready(&device, 0);
    write32(&device, AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    write64(&device, ASQ, SQ);
    write64(&device, ACQ, CQ);
    write32(&device, CC, 4 << 20 | 6 << 16 | 1);
    wait_ready(&device, 1);
    uint32_t version = read32(&device, VS);
    printf("Controller Ready: NVMe %u.%u\n", version >> 16, version >> 8 & 0xFF);

    uint32_t entry[16] = {IDENTIFY | 1 << 16 /* CID */};
    entry[6] = DATA;  /* PRP1 */
    entry[10] = CNS_CONTROLLER;
    memcpy(device.memory + SQ, entry, sizeof entry);
    write32(&device, DOORBELLS, 1);
    volatile uint16_t *status = (volatile uint16_t *)(device.memory + CQ + 14);
    while (!(*status & 1))
        ;  /* the phase tag */
    if (*status >> 1) {
        fprintf(stderr, "Identify failed: status %04x\n", *status >> 1);
        return 1;
    }
    write32(&device, DOORBELLS + 4, 1);
    printf("serial %.20s\n", (char *)device.memory + DATA + 4);
    device_close(&device);
    return 0;
}

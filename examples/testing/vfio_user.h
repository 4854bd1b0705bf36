/* A client of the vfio-user protocol, as far as a driver's test needs it: BAR0, configuration space, shared memory. */
#ifndef VFIO_USER_H
#define VFIO_USER_H

#include <stddef.h>
#include <stdint.h>

enum { BAR0 = 0, CONFIG = 7 };

struct device {
    int socket;
    uint16_t message;
    uint8_t *memory;  /* what the device can access, from address 0 on */
    size_t size;
};

/* All functions end the process with a message where something fails. */
void device_open(struct device *device, const char *path, size_t memory);
void device_close(struct device *device);
void region_read(struct device *device, uint32_t region, uint64_t offset, void *data, uint32_t length);
void region_write(struct device *device, uint32_t region, uint64_t offset, const void *data, uint32_t length);
uint32_t read32(struct device *device, uint64_t offset);
void write32(struct device *device, uint64_t offset, uint32_t value);
void write64(struct device *device, uint64_t offset, uint64_t value);

#endif

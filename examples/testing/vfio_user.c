#define _GNU_SOURCE
#include "vfio_user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { VERSION = 1, DMA_MAP = 2, REGION_READ = 9, REGION_WRITE = 10, IS_ERROR = 0x20, LARGEST = 4096 };

struct header { uint16_t id, command; uint32_t size, flags, error; };
struct map { uint32_t argsz, flags; uint64_t offset, address, length; };
struct access { uint64_t offset; uint32_t region, count; };

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static void receive(int socket, void *data, size_t length)
{
    for (size_t at = 0; at < length;) {
        ssize_t got = read(socket, (uint8_t *)data + at, length - at);
        if (got <= 0)
            fail("the device closed the socket");
        at += (size_t)got;
    }
}

/* Send a message, with a file descriptor unless it is -1, and receive the reply into the same buffer. */
static uint32_t ask(struct device *device, uint16_t command, void *payload, uint32_t length, uint32_t room, int fd)
{
    struct header head = {device->message++, command, (uint32_t)sizeof head + length, 0, 0};
    struct iovec parts[] = {{&head, sizeof head}, {payload, length}};
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } with = {0};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (fd >= 0) {
        message.msg_control = &with;
        message.msg_controllen = sizeof with;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    if (sendmsg(device->socket, &message, 0) != (ssize_t)head.size)
        fail("sending to the device");
    receive(device->socket, &head, sizeof head);
    if (head.flags & IS_ERROR || head.size - sizeof head > room) {
        fprintf(stderr, "the device refused command %u: error %u\n", command, head.error);
        exit(2);
    }
    receive(device->socket, payload, head.size - sizeof head);
    return head.size - (uint32_t)sizeof head;
}

void device_open(struct device *device, const char *path, size_t memory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    device->message = 0;
    device->socket = socket(AF_UNIX, SOCK_STREAM, 0);
    if (device->socket < 0 || connect(device->socket, (struct sockaddr *)&address, sizeof address) < 0)
        fail(path);

    char version[LARGEST] = {0, 0, 0, 0};  /* 0.0, then a JSON object */
    strcpy(version + 4, "{\"capabilities\":{\"max_msg_fds\":1}}");
    ask(device, VERSION, version, 4 + (uint32_t)strlen(version + 4) + 1, sizeof version, -1);

    int fd = memfd_create("dma", 0);
    if (fd < 0 || ftruncate(fd, (off_t)memory) < 0)
        fail("memory");
    device->size = memory;
    device->memory = mmap(NULL, memory, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (device->memory == MAP_FAILED)
        fail("memory");
    struct map map = {sizeof map, 3 /* read and write */, 0, 0, memory};
    ask(device, DMA_MAP, &map, sizeof map, sizeof map, fd);
    close(fd);
}

void device_close(struct device *device)
{
    close(device->socket);
    munmap(device->memory, device->size);
}

void region_read(struct device *device, uint32_t region, uint64_t offset, void *data, uint32_t length)
{
    uint8_t buffer[LARGEST];
    struct access access = {offset, region, length};
    memcpy(buffer, &access, sizeof access);
    ask(device, REGION_READ, buffer, sizeof access, sizeof buffer, -1);
    memcpy(data, buffer + sizeof access, length);
}

void region_write(struct device *device, uint32_t region, uint64_t offset, const void *data, uint32_t length)
{
    uint8_t buffer[LARGEST];
    struct access access = {offset, region, length};
    memcpy(buffer, &access, sizeof access);
    memcpy(buffer + sizeof access, data, length);
    ask(device, REGION_WRITE, buffer, (uint32_t)sizeof access + length, sizeof buffer, -1);
}

uint32_t read32(struct device *device, uint64_t offset)
{
    uint32_t value;
    region_read(device, BAR0, offset, &value, sizeof value);
    return value;
}

void write32(struct device *device, uint64_t offset, uint32_t value)
{
    region_write(device, BAR0, offset, &value, sizeof value);
}

void write64(struct device *device, uint64_t offset, uint64_t value)
{
    write32(device, offset, (uint32_t)value);
    write32(device, offset + 4, (uint32_t)(value >> 32));
}

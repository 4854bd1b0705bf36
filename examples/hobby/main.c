/* A prompt for the driver's functions; or, ONE_SHOT, a kernel that runs every step without input and ends with an exit code. */
#include "hobby.h"

/* How a call ended. A completion's status field is taken apart: status code type and status code, Base 3.3.3.2. */
static bool report(int status) {
    if (status > 0)
        print("error: status sct %u sc 0x%02x\n", status >> 8 & 7, status & 0xFF);
    else if (status < 0)
        print("error: %s\n", nvme_error(status));
    else
        print("ok\n");
    return status == 0;
}

#define FOR_EACH(c) for (struct nvme_controller *c = nvme_controllers; c < nvme_controllers + nvme_count; c++)

static uint64_t given[4];           /* the numbers behind the command */
static const char *given_word = ""; /* or the word */

static bool same(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static bool load(void) {
    static const char *const steps[] = {"detect", "admin-queue", "identify", "io-queues", "read"};
    int last = STEPS;
    for (int i = 0; i < STEPS; i++)
        if (same(given_word, steps[i]))
            last = i + 1;
    nvme_load(last);
    if (!nvme_count)
        print("error: no NVMe controller\n");
    bool fine = nvme_count > 0;
    FOR_EACH(c) {
        print("controller %02x:%02x.%u: ", c->where.bus, c->where.device, c->where.function);
        fine &= report(c->status);
    }
    return fine;
}

static bool info(void) {
    FOR_EACH(c) {
        print("controller 0000:%02x:%02x.%u", c->where.bus, c->where.device, c->where.function);
        if (c->cap)
            print(" version %u.%u.%u, queues of %u entries, doorbells %u bytes apart, ready in %u ms, pages of %u to %u bytes",
                  c->version >> 16, c->version >> 8 & 0xFF, c->version & 0xFF, (uint32_t)(c->cap & 0xFFFF) + 1,
                  4U << (c->cap >> 32 & 0xF), (uint32_t)(c->cap >> 24 & 0xFF) * 500, 4096U << (c->cap >> 48 & 0xF),
                  4096U << (c->cap >> 52 & 0xF));
        print("\n");
    }
    return true;
}

#if STEPS >= 2
static bool ready(void) {
    bool all = nvme_count > 0;
    FOR_EACH(c) all &= c->ready;
    print("ready: %s\n", all ? "yes" : "no");
    return all;
}
#endif

#if STEPS >= 3
static bool identify(void) {
    FOR_EACH(c) {
        if (c->serial[0])
            print("controller vendor 0x%04x serial [%s] model [%s] firmware [%s] transfers up to %u bytes\n", c->vendor, c->serial,
                  c->model, c->firmware, c->limit);
    }
    return true;
}

static bool list(void) {
    FOR_EACH(c) {
        for (int i = 0; i < c->namespaces; i++)
            print("disk nsid %u: %lu blocks of %u bytes, serial [%s]\n", c->namespace[i].id, c->namespace[i].blocks,
                  c->namespace[i].block_size, c->serial);
    }
    return true;
}

static bool rescan(void) {
    bool fine = true;
    FOR_EACH(c) fine &= report(nvme_identify_namespaces(c));
    return fine && list();
}
#endif

#if STEPS >= 4
static bool queues(void) {
    FOR_EACH(c) {
        if (c->io.entries)
            print("queues: 1 pair of %u entries, polled\n", c->io.entries);
    }
    return true;
}

static bool noop(void) { return report(nvme_noop(given[0])); }
#endif

#if STEPS >= 5
static bool read(void) { return report(nvme_read(given[0], given[1], given[2], given[3])); }

/* Memory as xxd shows it: offset, and the bytes in their order. */
static bool dump(void) {
    const uint8_t *from = (const uint8_t *)given[0];
    for (uint64_t at = 0; at < given[1]; at += 16) {
        print("%08lx:", at);
        for (uint64_t i = at; i < at + 16 && i < given[1]; i++)
            print(i % 2 ? "%02x" : " %02x", from[i]);
        print("\n");
    }
    return true;
}
#endif

static bool help(void);

static const struct {
    const char *name, *arguments; /* in brackets, optional ones */
    bool (*run)(void);
} commands[] = {
    {"help", "", help},
    {"load", "[last step]", load},
    {"info", "", info},
#if STEPS >= 2
    {"ready", "", ready},
#endif
#if STEPS >= 3
    {"identify", "", identify},
    {"list", "", list},
    {"rescan", "", rescan},
#endif
#if STEPS >= 4
    {"queues", "", queues},
    {"noop", "nsid", noop},
#endif
#if STEPS >= 5
    {"read", "nsid lba blocks address", read},
    {"dump", "address bytes", dump},
#endif
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static bool help(void) {
    for (int i = 0; i < COMMANDS; i++)
        print("%s %s\n", commands[i].name, commands[i].arguments);
    return true;
}

#ifdef ONE_SHOT

/* QEMU's isa-debug-exit ends QEMU with the exit status 2 * code + 1. */
static void exit(uint8_t code) { out8(0xF4, code); }

void kernel_main(void) {
    serial_start();
    clock_start();
    bool fine = true;
    for (int i = 0; i < COMMANDS; i++)
        if (commands[i].run != help && (!*commands[i].arguments || *commands[i].arguments == '['))
            fine &= commands[i].run();
    print("done: %s\n", fine ? "all is well" : "something failed");
    exit(fine ? 0x10 : 0x11);
}

#else

static void read_line(char *line, int size) {
    for (int length = 0;;) {
#ifdef KEYBOARD
        char character = keyboard_get();
#else
        char character = serial_get();
#endif
        if (character == '\r' || character == '\n') {
            line[length] = 0;
            print("\n");
            return;
        }
        if (character == '\b' && length > 0) {
            length--;
            print("\b \b");
        } else if (character >= ' ' && length < size - 1) {
            line[length++] = character;
            print("%c", character);
        }
    }
}

/* The next word of the line, which is cut off; "" at its end. */
static char *next_word(char **rest) {
    while (**rest == ' ')
        (*rest)++;
    char *word = *rest;
    while (**rest && **rest != ' ')
        (*rest)++;
    if (**rest)
        *(*rest)++ = 0;
    return word;
}

/* A number in decimal, or with 0x; 0 for what is none. */
static uint64_t number(const char *text) {
    unsigned base = text[0] == '0' && text[1] == 'x' ? 16 : 10;
    uint64_t value = 0;
    for (text += base == 16 ? 2 : 0; *text; text++)
        value = value * base + (*text >= 'a' ? *text - 'a' + 10 : *text - '0');
    return value;
}

void kernel_main(void) {
    static char line[128];
    serial_start();
    clock_start();
    print("\nhobby: steps 1 to %u are built; help lists the commands\n", STEPS);
    for (;;) {
        print("> ");
        read_line(line, sizeof line);
        char *rest = line, *name = next_word(&rest), *word = next_word(&rest);
        given_word = word;
        for (int i = 0; i < 4; i++, word = next_word(&rest))
            given[i] = number(word);
        int i = 0;
        while (i < COMMANDS && !same(name, commands[i].name))
            i++;
        if (i < COMMANDS)
            commands[i].run();
        else if (*name)
            print("error: no command %s\n", name);
    }
}
#endif

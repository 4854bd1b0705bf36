/* Milliseconds since the start: the processor's time stamp counter, measured once by the timer that every PC has. */
#include "hobby.h"

enum { PIT_CHANNEL_2 = 0x42, PIT_COMMAND = 0x43, CONTROL = 0x61, GATE = 0x01, SPEAKER = 0x02, OUT = 0x20 };
enum { PIT_HZ = 1193182, MEASURED_MS = 10, MEASUREMENTS = 3 };

static uint64_t start, per_ms;

static uint64_t counter(void) {
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static uint64_t measure(void) {
    uint16_t ticks = PIT_HZ * MEASURED_MS / 1000;
    out8(CONTROL, (in8(CONTROL) & ~SPEAKER) | GATE);
    out8(PIT_COMMAND, 0xB0); /* channel 2, low byte then high byte, mode 0: OUT rises at the end */
    out8(PIT_CHANNEL_2, ticks & 0xFF);
    out8(PIT_CHANNEL_2, ticks >> 8);
    uint64_t begun = counter();
    while (!(in8(CONTROL) & OUT))
        ;
    return (counter() - begun) / MEASURED_MS;
}

void clock_start(void) {
    for (int i = 0; i < MEASUREMENTS; i++) { /* what disturbs a measurement makes it longer: the shortest is the best */
        uint64_t measured = measure();
        if (!per_ms || measured < per_ms)
            per_ms = measured;
    }
    start = counter();
}

uint64_t clock_ms(void) { return (counter() - start) / per_ms; }

/* The first serial port, a 16550 UART: 115200 baud, 8 data bits, no interrupts. */
#include "hobby.h"

enum { PORT = 0x3F8, DATA = PORT, IER = PORT + 1, FCR = PORT + 2, LCR = PORT + 3, MCR = PORT + 4, LSR = PORT + 5 };
enum { LSR_RECEIVED = 0x01, LSR_CAN_SEND = 0x20, LCR_8_BITS = 0x03, LCR_DIVISOR = 0x80 };

void serial_start(void) {
    out8(IER, 0);
    out8(LCR, LCR_DIVISOR | LCR_8_BITS);
    out8(DATA, 1); /* 115200 / 1 */
    out8(IER, 0);
    out8(LCR, LCR_8_BITS);
    out8(FCR, 0x07); /* both FIFOs on and empty */
    out8(MCR, 0x03);
}

void serial_put(char character) {
    while (!(in8(LSR) & LSR_CAN_SEND))
        ;
    out8(DATA, character);
}

char serial_get(void) {
    while (!(in8(LSR) & LSR_RECEIVED))
        __asm__ volatile("pause");
    return in8(DATA);
}

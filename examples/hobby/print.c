/* Formatted output to the console, and the functions that the compiler calls. */
#include <stdarg.h>

#include "hobby.h"

#ifdef SCREEN
enum { COLUMNS = 80, ROWS = 25, GREY = 0x0700 };

/* The text memory of a PC's colour text modes: a character and an attribute for each cell. */
static void show(char character) {
    static volatile uint16_t *const cells = (volatile uint16_t *)0xB8000;
    static int row = -1, column;
    if (row < 0) {
        for (int i = 0; i < COLUMNS * ROWS; i++)
            cells[i] = GREY | ' ';
        row = 0;
    }
    if (character == '\r')
        column = 0;
    else if (character == '\b')
        column -= column > 0;
    else if (character == '\n')
        row++;
    else
        cells[row * COLUMNS + column++] = GREY | (uint8_t)character;
    if (column == COLUMNS)
        row++, column = 0;
    if (row < ROWS)
        return;
    row = ROWS - 1;
    for (int i = 0; i < COLUMNS * ROWS; i++)
        cells[i] = i < COLUMNS * (ROWS - 1) ? cells[i + COLUMNS] : GREY | ' ';
}
#endif

static void put(char character) {
    if (character == '\n')
        put('\r');
#if defined DEBUG_CONSOLE
    out8(0xE9, character);
#elif defined SCREEN
    show(character);
#else
    serial_put(character);
#endif
}

static void put_number(uint64_t value, unsigned base, int width, char fill) {
    char digits[20];
    int n = 0;
    do
        digits[n++] = "0123456789abcdef"[value % base];
    while ((value /= base));
    for (; width > n; width--)
        put(fill);
    while (n)
        put(digits[--n]);
}

void print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        char fill = *++format == '0' ? '0' : ' ';
        int width = 0;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + *format++ - '0';
        bool wide = *format == 'l';
        format += wide;
        switch (*format) {
        case 's':
            for (const char *text = va_arg(arguments, const char *); *text; text++)
                put(*text);
            break;
        case 'c':
            put(va_arg(arguments, int));
            break;
        case 'u':
        case 'x':
            put_number(wide ? va_arg(arguments, uint64_t) : va_arg(arguments, uint32_t), *format == 'x' ? 16 : 10, width, fill);
        }
    }
    va_end(arguments);
}

void *memset(void *to, int byte, size_t length) {
    for (uint8_t *p = to; length--; p++)
        *p = byte;
    return to;
}

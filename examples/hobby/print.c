/* Formatted output to the console, and the functions that the compiler calls. */
#include <stdarg.h>

#include "hobby.h"

static void put(char character) {
    if (character == '\n')
        put('\r');
#ifdef DEBUG_CONSOLE
    out8(0xE9, character);
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

/* A PS/2 keyboard behind the 8042 as the firmware leaves it: scan code set 1, US layout, as far as a prompt needs it. */
#include "hobby.h"

enum { DATA = 0x60, STATUS = 0x64, STATUS_FULL = 0x01, STATUS_MOUSE = 0x20 };
enum { RELEASED = 0x80 };

static const char keys[] = "\0\0331234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0\0\0 "; /* by scan code */

char keyboard_get(void) {
    for (;;) {
        uint8_t status = in8(STATUS);
        if (!(status & STATUS_FULL)) {
            __asm__ volatile("pause");
            continue;
        }
        uint8_t code = in8(DATA);
        if (!(status & STATUS_MOUSE) && !(code & RELEASED) && code < sizeof keys && keys[code])
            return keys[code];
    }
}

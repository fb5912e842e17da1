/* print.c: a small printf for the serial port. */
#include "print.h"
#include "lock.h"
#include "serial.h"
#include "string.h"

#define LINE_BYTES 512

static struct lock console;
static bool silent;

static void add_bytes(struct text *text, const char *bytes, size_t length) {
    size_t room = text->capacity - text->length;
    if (length > room)
        length = room;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += (u32)length;
}

static void add_number(struct text *text, u64 value, u32 base, u32 width) {
    char digits[20]; /* 2^64 - 1 in decimal */
    u32 at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (sizeof(digits) - at < width && at > 0)
        digits[--at] = '0';
    add_bytes(text, digits + at, sizeof(digits) - at);
}

void text_vadd(struct text *text, const char *format, va_list arguments) {
    for (;;) {
        const char *plain = format;
        while (*format && *format != '%')
            format++;
        add_bytes(text, plain, (size_t)(format - plain));
        if (!*format++)
            return;
        u32 width = 0;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + (u32)(*format++ - '0');
        bool wide = *format == 'l';
        if (wide)
            format++;
        switch (*format++) {
        case 's': {
            const char *string = va_arg(arguments, const char *);
            add_bytes(text, string, strlen(string));
            break;
        }
        case 'u':
            add_number(text, wide ? va_arg(arguments, u64) : va_arg(arguments, u32), 10, width);
            break;
        case 'x':
            add_number(text, wide ? va_arg(arguments, u64) : va_arg(arguments, u32), 16, width);
            break;
        default: /* "%%" */
            add_bytes(text, "%", 1);
        }
    }
}

void text_add(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_vadd(text, format, arguments);
    va_end(arguments);
}

void print_bytes(const char *bytes, size_t length) {
    lock_acquire(&console);
    serial_write(bytes, length);
    lock_release(&console);
}

void print(const char *format, ...) {
    if (silent)
        return;
    char line[LINE_BYTES];
    struct text text = {line, 0, sizeof(line)};
    va_list arguments;
    va_start(arguments, format);
    text_vadd(&text, format, arguments);
    va_end(arguments);
    print_bytes(line, text.length);
}

void print_silence(void) { silent = true; }
void print_break_lock(void) { console = (struct lock){0, 0}; }

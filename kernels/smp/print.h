/*
 * print.h: formatted output on the console.
 *
 * Formats: %s %u %lu %x %lx %%, and a zero-padded width as in %016lx.
 */
#pragma once
#include <stdarg.h>
#include "x86.h"

/* Appends to a buffer of fixed size; what does not fit is dropped. */
struct text {
    char *bytes;
    u32 length, capacity;
};

__attribute__((format(printf, 2, 3))) void text_add(struct text *text, const char *format, ...);
void text_vadd(struct text *text, const char *format, va_list arguments);

/* The output of two calls is never interleaved. print_silence() turns all of it off. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);
void print_silence(void);

/* Not affected by print_silence(): for the JSON report, heartbeats and panics. */
void print_bytes(const char *bytes, size_t length);

/* Releases the lock of a CPU that a panic has halted. */
void print_break_lock(void);

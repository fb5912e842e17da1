/*
 * print.h: text to the console, a line or more at a time.
 *
 * Formats: %s %u %lu %x %lx and %%, with a zero-padded width such as %016lx.
 */
#pragma once
#include <stdarg.h>
#include "x86.h"

/* Appends to a fixed buffer; what does not fit is dropped. */
struct text {
    char *bytes;
    u32 length, capacity;
};

__attribute__((format(printf, 2, 3))) void text_add(struct text *text, const char *format, ...);
void text_vadd(struct text *text, const char *format, va_list arguments);

/* Whole calls never interleave between CPUs. Silent once print_silence(). */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);
void print_silence(void);

/* Goes out in any case: for the JSON report, heartbeats and panics. */
void print_bytes(const char *bytes, size_t length);

/* For the panic, once every other CPU is halted: one may hold the lock. */
void print_break_lock(void);

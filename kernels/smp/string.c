/*
 * string.c: uses string instructions, because REP MOVSQ is a single instruction for
 * an emulator, while a loop has four per iteration.
 */
#include "string.h"

void *memcpy(void *to, const void *from, size_t bytes) {
    void *out = to;
    size_t words = bytes / 8, rest = bytes % 8;
    asm volatile("rep movsq" : "+D"(out), "+S"(from), "+c"(words)::"memory");
    asm volatile("rep movsb" : "+D"(out), "+S"(from), "+c"(rest)::"memory");
    return to;
}

void *memset(void *to, int value, size_t bytes) {
    void *out = to;
    size_t words = bytes / 8, rest = bytes % 8;
    u64 pattern = (u8)value * 0x0101010101010101ull;
    asm volatile("rep stosq" : "+D"(out), "+c"(words) : "a"(pattern) : "memory");
    asm volatile("rep stosb" : "+D"(out), "+c"(rest) : "a"(pattern) : "memory");
    return to;
}

size_t strlen(const char *string) {
    size_t length = 0;
    while (string[length])
        length++;
    return length;
}

bool bytes_equal(const void *a, const void *b, size_t bytes) {
    const u8 *left = a, *right = b;
    for (size_t i = 0; i < bytes; i++)
        if (left[i] != right[i])
            return false;
    return true;
}

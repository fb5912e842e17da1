/* string.h: functions that the compiler may call, and a comparison. */
#pragma once
#include "x86.h"

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
size_t strlen(const char *string);
bool bytes_equal(const void *a, const void *b, size_t bytes);

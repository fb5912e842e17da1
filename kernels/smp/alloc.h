/* alloc.h: memory that is never given back, from the loader's map. */
#pragma once
#include "x86.h"

void alloc_init(void);

/* Zeroed, 64-byte aligned, below 4 GiB; NULL when there is none left. */
void *alloc_zeroed(size_t bytes);

/* The same, of which only the first `zeroed` bytes are zero (stacks need none). */
void *alloc_partly_zeroed(size_t bytes, size_t zeroed);

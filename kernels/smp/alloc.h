/* alloc.h: allocates from the RAM of the loader's memory map. There is no free(). */
#pragma once
#include "x86.h"

void alloc_init(void);

/* Zeroed, 64-byte aligned, below 4 GiB; NULL if no memory is left. */
void *alloc_zeroed(size_t bytes);

/* The same, but only the first `zeroed` bytes are cleared: stacks need not be. */
void *alloc_partly_zeroed(size_t bytes, size_t zeroed);

/*
 * atomic.h: atomic operations, and bitmaps of CPUs.
 *
 * Read-modify-write operations are sequentially consistent: on x86 they use the
 * LOCK prefix, and a weaker memory order would not be cheaper.
 */
#pragma once
#include "x86.h"

#define atomic_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define atomic_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define atomic_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define atomic_fetch_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define atomic_compare_exchange(p, expected, v) \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

/* A set of small numbers (CPU indices, APIC IDs), one bit each. */
#define BITMAP_WORDS(bits) (((bits) + 63) / 64)

static inline bool bitmap_test(const u64 *map, u32 bit) {
    return __atomic_load_n(&map[bit / 64], __ATOMIC_RELAXED) >> (bit % 64) & 1;
}

static inline void bitmap_set(u64 *map, u32 bit) {
    __atomic_fetch_or(&map[bit / 64], 1ull << (bit % 64), __ATOMIC_SEQ_CST);
}

/* Returns whether the bit was set. Of concurrent callers exactly one gets true. */
static inline bool bitmap_test_and_clear(u64 *map, u32 bit) {
    u64 mask = 1ull << (bit % 64);
    return __atomic_fetch_and(&map[bit / 64], ~mask, __ATOMIC_SEQ_CST) & mask;
}

/* The first set bit at or after `from`, then from 0; -1 if the set is empty. */
int bitmap_find_from(const u64 *map, u32 bits, u32 from);

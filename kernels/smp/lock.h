/*
 * lock.h: a ticket spinlock. First come, first served, one cache line.
 *
 * There is no irqsave variant because none is needed: ring 0 runs with
 * interrupts off except while it halts (cpu.h), and nobody halts in a lock.
 */
#pragma once
#include "atomic.h"

struct lock {
    u32 next, serving;
};

static inline void lock_acquire(struct lock *lock) {
    u32 ticket = atomic_fetch_add(&lock->next, 1);
    while (atomic_load(&lock->serving) != ticket)
        pause();
}

/* For who can do without: never queues, so it never waits for a CPU that the
 * host has descheduled while that CPU's turn has come. */
static inline bool lock_try(struct lock *lock) {
    u32 serving = atomic_load(&lock->serving), expected = serving;
    return atomic_compare_exchange(&lock->next, &expected, serving + 1);
}

/* Only the holder writes `serving`, so a plain release store is enough. */
static inline void lock_release(struct lock *lock) { atomic_store(&lock->serving, lock->serving + 1); }

/*
 * lock.h: a ticket spinlock, which CPUs get in the order of their requests.
 *
 * It needs no irqsave variant: ring 0 runs with interrupts disabled except while
 * it is halted (cpu.h), and no CPU halts while it holds a lock.
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

/* Takes the lock only if it is free. It never waits, not even for a CPU that
 * holds the next ticket and that the host has descheduled. */
static inline bool lock_try(struct lock *lock) {
    u32 serving = atomic_load(&lock->serving), expected = serving;
    return atomic_compare_exchange(&lock->next, &expected, serving + 1);
}

/* Only the holder writes `serving`, so a release store is sufficient. */
static inline void lock_release(struct lock *lock) { atomic_store(&lock->serving, lock->serving + 1); }

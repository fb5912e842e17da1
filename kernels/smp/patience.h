/*
 * patience.h: deadlines for a host that may be busy. A wall-clock deadline
 * cannot tell a CPU that is broken from one that the host has not run yet.
 *
 * A deadline here counts time that the host gave to this CPU. Whoever waits
 * looks at the TSC again and again; where the time between two looks is longer
 * than a look takes, the host ran something else, and only `step_max` of it
 * counts. Other CPUs get about as much of the host as this one does. And each
 * step that any CPU makes (progress_note) renews the deadline.
 */
#pragma once
#include "atomic.h"
#include "clock.h"

/* Some CPU has done a step of what the others wait for. */
void progress_note(void);
extern u64 progress;

struct patience {
    u64 budget, left; /* TSC ticks */
    u64 last_look, step_max;
    u64 progress; /* count at the last look */
};

/* For a loop that does nothing but look; longer between two looks, and the
 * host was elsewhere. An emulated ring 0 needs 10 us for a look. */
#define PATIENCE_STEP_POLLING_US 100

static inline void patience_start(struct patience *patience, u64 microseconds, u64 step_us) {
    *patience = (struct patience){.budget = clock_ticks_us(microseconds),
                                  .left = clock_ticks_us(microseconds),
                                  .last_look = rdtsc(),
                                  .step_max = clock_ticks_us(step_us),
                                  .progress = atomic_load(&progress)};
}

/* A look, in ring 0 or 3: whether nobody made progress for as long as given. */
static inline bool patience_is_over(struct patience *patience, u64 now) {
    u64 step = now - patience->last_look, count = atomic_load(&progress);
    patience->last_look = now;
    if (count != patience->progress) {
        patience->progress = count;
        patience->left = patience->budget;
        return false;
    }
    if (step > patience->step_max)
        step = patience->step_max;
    patience->left = patience->left > step ? patience->left - step : 0;
    return patience->left == 0;
}

/* Waits until *counter >= wanted; false if patience ended first. */
bool patience_wait(const u32 *counter, u32 wanted, u64 microseconds);

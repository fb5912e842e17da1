/*
 * patience.h: deadlines that are right on a busy host too. A wall-clock deadline
 * cannot tell a broken CPU from one that the host has not run yet.
 *
 * These deadlines count only time during which the host ran the waiting CPU. That
 * CPU reads the TSC again and again. If a step between two readings is longer
 * than such a step takes, the host ran something else, and only `step_max` of it
 * counts. Other CPUs get about the same share of the host. In addition, each step
 * that any CPU completes (progress_note) restarts the deadline.
 */
#pragma once
#include "atomic.h"
#include "clock.h"

/* Call it whenever a CPU has completed a step that others wait for. */
void progress_note(void);
extern u64 progress;

struct patience {
    u64 budget, left; /* TSC ticks */
    u64 last_look, step_max;
    u64 progress; /* its value at the last look */
};

/* step_max for a loop that does nothing else; an emulated ring 0 takes 10 us for
 * a turn of such a loop. */
#define PATIENCE_STEP_POLLING_US 100

static inline void patience_start(struct patience *patience, u64 microseconds, u64 step_us) {
    *patience = (struct patience){.budget = clock_ticks_us(microseconds),
                                  .left = clock_ticks_us(microseconds),
                                  .last_look = rdtsc(),
                                  .step_max = clock_ticks_us(step_us),
                                  .progress = atomic_load(&progress)};
}

/* Whether the deadline has passed. Call it again and again; in ring 0 or 3. */
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

/* Waits until *counter >= wanted; false if the deadline passed first. */
bool patience_wait(const u32 *counter, u32 wanted, u64 microseconds);

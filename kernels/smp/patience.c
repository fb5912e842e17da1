/* patience.c: progress of the CPUs, and a wait with a deadline (patience.h). */
#include "patience.h"
#include "cpu.h"
#include "ring3.h"

/* The waiting CPU halts for this time before it polls, because polling may take
 * the host CPU that the other CPU needs. On an idle host no wait takes as long:
 * 254 CPUs start within 80 ms. */
#define SLEEP_FIRST_US 250000

u64 progress __attribute__((aligned(64)));

void progress_note(void) { atomic_fetch_add(&progress, 1); }

/* In ring 3, where an iteration takes nanoseconds on every host. */
static u64 poll(u64 counter, u64 wanted, u64 microseconds) {
    struct patience patience;
    patience_start(&patience, microseconds, PATIENCE_STEP_POLLING_US);
    while (atomic_load((const u32 *)counter) < wanted) {
        if (patience_is_over(&patience, rdtsc()))
            return false;
        pause();
    }
    return true;
}

bool patience_wait(const u32 *counter, u32 wanted, u64 microseconds) {
    u64 sleep_end = rdtsc() + clock_ticks_us(SLEEP_FIRST_US);
    WAIT_UNTIL(atomic_load(counter) >= wanted || rdtsc() > sleep_end);
    return atomic_load(counter) >= wanted || ring3_run(poll, (u64)counter, wanted, microseconds);
}

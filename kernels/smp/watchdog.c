/* watchdog.c: only the BSP ticks. APs wait for it, so it notices for them too. */
#include "watchdog.h"
#include "apic.h"
#include "clock.h"
#include "panic.h"

#define PATIENCE_US 30000000

static const char *current_phase;
static u64 fed_at;

void watchdog_feed(const char *phase) {
    current_phase = phase;
    fed_at = rdtsc();
}

void watchdog_start(void) {
    watchdog_feed("start");
    apic_start_tick();
}

void watchdog_stop(void) { apic_stop_tick(); }

void on_tick(void) {
    apic_end_of_interrupt();
    if (rdtsc() - fed_at > clock_ticks_us(PATIENCE_US))
        panic("no progress for 30 s", current_phase);
}

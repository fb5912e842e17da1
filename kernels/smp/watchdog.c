/* watchdog.c: only the BSP has a tick. Each phase ends on the BSP, so it notices a hang anywhere. */
#include "watchdog.h"
#include "apic.h"
#include "panic.h"
#include "patience.h"

#define PATIENCE_US 30000000
/* If a tick comes later, the host did not run the BSP, or the machine was paused.
 * With KVM and QEMU the tick has 20 ms. */
#define STEP_US 100000

static const char *current_phase;
static struct patience patience;

void watchdog_enter(const char *phase) {
    current_phase = phase;
    progress_note();
}

void watchdog_start(void) {
    watchdog_enter("start");
    patience_start(&patience, PATIENCE_US, STEP_US);
    apic_start_tick();
}

void watchdog_stop(void) { apic_stop_tick(); }

void on_tick(void) {
    apic_end_of_interrupt();
    if (patience_is_over(&patience, rdtsc()))
        panic("no progress for 30 s", current_phase);
}

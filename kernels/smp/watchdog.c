/* watchdog.c: only the BSP ticks. APs wait for it, so it notices for them too. */
#include "watchdog.h"
#include "apic.h"
#include "panic.h"
#include "patience.h"

#define PATIENCE_US 30000000
/* A tick that comes later than this found the BSP, or the whole machine,
 * without a host CPU. Ticks of KVM and QEMU come every 20 ms. */
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

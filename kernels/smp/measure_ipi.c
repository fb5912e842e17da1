/*
 * measure_ipi.c: pings between pairs of CPUs, cross-CPU calls, broadcasts.
 *
 * Up to 16 CPUs every ordered pair is measured. With more CPUs, where that would
 * take too long, each CPU pings its successor (a ring), and the BSP and each AP
 * ping each other.
 */
#include "ipi.h"
#include "measure.h"
#include "options.h"
#include "patience.h"
#include "sched.h"
#include "watchdog.h"

#define EVERY_PAIR_MAX_CPUS 16
#define FEW_CPUS 4
#define ROUNDS_FEW_CPUS 16
#define ROUNDS_MANY_CPUS 2
#define BROADCASTS 4

static void spread_add(struct spread *spread, u64 value) {
    if (spread->count == 0 || value < spread->min)
        spread->min = value;
    if (value > spread->max)
        spread->max = value;
    spread->sum += value;
    spread->count++;
}

u64 spread_mean(const struct spread *spread) { return spread->count ? spread->sum / spread->count : 0; }

static void ping_pair(struct ping_result *result, u32 target) {
    for (u32 round = 0; round < result->rounds; round++) {
        spread_add(&result->round_trip, ipi_ping(cpus[target]));
        progress_note();
    }
    result->pairs++;
}

static bool row_done;

/* Runs on each CPU in turn: all pings that it sends. */
static void ping_row(u64 result_pointer, u64 unused) {
    (void)unused;
    struct ping_result *result = (void *)result_pointer;
    u32 self = this_cpu()->index, successor = (self + 1) % cpu_count;
    if (result->every_pair || self == BSP) {
        for (u32 target = 0; target < cpu_count; target++)
            if (target != self)
                ping_pair(result, target);
    } else {
        ping_pair(result, successor);
        if (successor != BSP)
            ping_pair(result, BSP);
    }
    atomic_store(&row_done, true);
    if (self != BSP)
        ipi_wake(cpus[BSP]);
}

static void count_answer(void *counter) {
    atomic_fetch_add((u32 *)counter, 1);
    progress_note();
}

void measure_ipis(struct ping_result *result) {
    result->every_pair = cpu_count <= EVERY_PAIR_MAX_CPUS;
    result->rounds = options.quick ? 1 : cpu_count <= FEW_CPUS ? ROUNDS_FEW_CPUS : ROUNDS_MANY_CPUS;
    if (cpu_count == 1)
        return;

    for (u32 i = 0; i < cpu_count; i++) {
        watchdog_enter("IPI ping");
        atomic_store(&row_done, false);
        if (i == BSP)
            ping_row((u64)result, 0);
        else
            sched_run_on(cpus[i], ping_row, (u64)result, 0);
        WAIT_UNTIL(atomic_load(&row_done));
    }

    watchdog_enter("calls");
    for (u32 i = 1; i < cpu_count; i++) {
        u64 start = rdtsc();
        call_on(cpus[i], count_answer, &result->calls_answered);
        spread_add(&result->call, rdtsc() - start);
    }

    u32 rounds = options.quick ? 1 : BROADCASTS;
    result->broadcasts_expected = rounds * (cpu_count - 1);
    for (u32 i = 0; i < rounds; i++) {
        watchdog_enter("broadcast");
        u64 start = rdtsc();
        call_others(count_answer, &result->broadcasts_answered, cpu_count - 1);
        spread_add(&result->broadcast, rdtsc() - start);
    }
}

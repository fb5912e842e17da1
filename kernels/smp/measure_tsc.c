/*
 * measure_tsc.c: compares the TSC of each AP with the BSP's.
 *
 * The BSP and one AP exchange a cache line, both in ring 3, where RDTSC is native
 * on every host. The BSP reads t0 and passes the line, the AP reads t and passes
 * it back, the BSP reads t1. As in Cristian's algorithm:
 *   the offset is t - (t0 + t1) / 2, with an error of at most (t1 - t0) / 2, so
 *     the shortest exchange gives the best value;
 *   t0 <= t <= t1, unless time goes backwards between the CPUs: a warp.
 */
#include "clock.h"
#include "ipi.h"
#include "measure.h"
#include "options.h"
#include "patience.h"
#include "ring3.h"
#include "sched.h"
#include "watchdog.h"

#define ROUNDS 64
#define ROUNDS_QUICK 8
#define QUICK_EXCHANGE_NS 2000 /* "precise"; may not be reached where two vCPUs share a host CPU */
#define BUDGET_US 150000       /* exchanges with all APs, divided among them, but ... */
#define BUDGET_MIN_US 1000     /* ... at least this for each */
#define TIME_BOX_US 400000     /* no further AP is started after this time */
#define TIME_BOX_QUICK_US 50000
#define PATIENCE_US 500000     /* for an AP to take part (patience.h) */

/* An odd `turn` is the AP's, an even one the BSP's. */
struct exchange {
    u32 turn;
    u32 rounds_wanted;
    u64 ap_time;
    u64 quick_ticks, budget_ticks;

    u32 rounds;
    s64 offset; /* in the shortest exchange */
    u64 quickest, warp;
    bool ap_left;
} __attribute__((aligned(64)));

#define TURN_STOP (~0u) /* odd, so that the AP sees it */

/* Ordered after earlier instructions and before later ones (SDM Vol 2, RDTSC). */
static inline u64 ordered_rdtsc(void) {
    u32 low, high;
    asm volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}

static u64 ap_side(u64 exchange_pointer, u64 b, u64 c) {
    (void)b, (void)c;
    struct exchange *x = (void *)exchange_pointer;
    struct patience patience; /* longer than the BSP's, which normally stops the exchange */
    patience_start(&patience, 2 * PATIENCE_US, PATIENCE_STEP_POLLING_US);
    for (;;) {
        u32 turn = atomic_load(&x->turn);
        if (turn == TURN_STOP || patience_is_over(&patience, ordered_rdtsc()))
            return 0;
        if (turn % 2 == 0)
            continue;
        x->ap_time = ordered_rdtsc();
        /* No plain store: the BSP may have stored TURN_STOP in the meantime. */
        atomic_compare_exchange(&x->turn, &turn, turn + 1);
    }
}

static u64 bsp_side(u64 exchange_pointer, u64 b, u64 c) {
    (void)b, (void)c;
    struct exchange *x = (void *)exchange_pointer;
    u64 taking_part = 0;
    struct patience patience;
    patience_start(&patience, PATIENCE_US, PATIENCE_STEP_POLLING_US);
    for (u32 round = 0;; round++) {
        u64 t0 = ordered_rdtsc(), t1;
        atomic_store(&x->turn, 2 * round + 1);
        do {
            t1 = ordered_rdtsc();
            if (patience_is_over(&patience, t1)) {
                atomic_exchange(&x->turn, TURN_STOP);
                return 0;
            }
        } while (atomic_load(&x->turn) == 2 * round + 1);
        t1 = ordered_rdtsc();
        s64 after = (s64)(x->ap_time - t0), before = (s64)(t1 - x->ap_time);
        u64 warp = after < 0 ? (u64)-after : before < 0 ? (u64)-before : 0;
        if (warp > x->warp)
            x->warp = warp;
        if (t1 - t0 < x->quickest) {
            x->quickest = t1 - t0;
            x->offset = (after - before) / 2;
        }
        x->rounds++;
        if (round == 0)
            taking_part = t1;
        bool spent = t1 - taking_part > x->budget_ticks;
        if (spent || (x->rounds >= x->rounds_wanted && x->quickest < x->quick_ticks))
            break;
    }
    atomic_exchange(&x->turn, TURN_STOP);
    return 0;
}

static void ap_task(u64 exchange_pointer, u64 unused) {
    (void)unused;
    ring3_run(ap_side, exchange_pointer, 0, 0);
    atomic_store(&((struct exchange *)exchange_pointer)->ap_left, true);
    ipi_wake(cpus[BSP]);
}

static u64 magnitude(s64 value) { return value < 0 ? (u64)-value : (u64)value; }

void measure_tsc(struct tsc_result *result) {
    u64 budget_us = (options.quick ? TIME_BOX_QUICK_US / 2 : BUDGET_US) / cpu_count;
    u64 box_end = rdtsc() + clock_ticks_us(options.quick ? TIME_BOX_QUICK_US : TIME_BOX_US);
    for (u32 i = 1; i < cpu_count && (i == 1 || rdtsc() < box_end); i++) {
        watchdog_enter("TSC comparison");
        struct exchange x = {
            .rounds_wanted = options.quick ? ROUNDS_QUICK : ROUNDS,
            .quick_ticks = clock_ticks_us(QUICK_EXCHANGE_NS) / 1000,
            .budget_ticks = clock_ticks_us(budget_us < BUDGET_MIN_US ? BUDGET_MIN_US : budget_us),
            .quickest = ~0ull,
        };
        sched_run_on(cpus[i], ap_task, (u64)&x, 0);
        ring3_run(bsp_side, (u64)&x, 0, 0);
        WAIT_UNTIL(atomic_load(&x.ap_left));
        if (x.rounds == 0) {
            result->silent++;
            continue;
        }
        result->compared++;
        if (x.quickest < x.quick_ticks) {
            result->precise++;
            if (magnitude(x.offset) >= magnitude(result->max_offset)) {
                result->max_offset = x.offset;
                result->max_offset_cpu = i;
            }
            if (x.quickest / 2 > result->max_error)
                result->max_error = x.quickest / 2;
        }
        if (x.warp > result->warp) {
            result->warp = x.warp;
            result->warp_cpu = i;
        }
    }
}

/*
 * measure_job.c: counts primes by trial division, first on the BSP alone, then on
 * all CPUs with work stealing. Both counts must be right.
 *
 * A task is a range of numbers. The CPU that takes it pushes the upper half onto
 * its queue, again and again, until only a grain is left, which it examines in
 * ring 3 (ring3.h). Idle CPUs steal the oldest, largest halves.
 */
#include "clock.h"
#include "ipi.h"
#include "measure.h"
#include "options.h"
#include "patience.h"
#include "ring3.h"
#include "sched.h"
#include "watchdog.h"

/* Number of primes, computed by a sieve (for powers of ten also OEIS A006880), and of trial divisions. */
static const struct {
    u32 limit, primes, divisions;
} known[] = {
    {10000, 1229, 57186},
    {20000, 2262, 147333},
    {40000, 4203, 382003},
    {70000, 6935, 825477},
    {100000, 9592, 1355033},
    {200000, 17984, 3547183},
    {300000, 25997, 6235943},
    {400000, 33860, 9329879},
    {500000, 41538, 12748067},
    {700000, 56543, 20416400},
    {1000000, 78498, 33679057},
    {1500000, 114155, 59585239},
    {2000000, 148933, 89357990},
    {3000000, 216816, 158348340},
    {5000000, 348513, 326103490},
    {10000000, 664579, 871103734},
};

#define TRIAL 2                /* row used to measure the speed of this machine: about 1 ms */
#define TARGET_US 50000        /* work for one CPU, plus ... */
#define TARGET_US_PER_CPU 1000 /* ... this for each CPU, so that many CPUs get a share */
#define TARGET_US_QUICK 4000
#define GRAIN_US 500           /* lower limit: queueing a task takes 0.2 ms where ring 0 is emulated */
#define GRAINS_PER_CPU 8       /* upper limit */
#define GRAINS_MIN 16

static u64 count_primes(u64 first, u64 end, u64 unused) {
    (void)unused;
    u64 count = first <= 2 && 2 < end;
    u32 start = first < 3 ? 3 : (u32)first | 1;
    for (u32 n = start; n < end; n += 2) {
        u32 divisor = 3;
        while (divisor * divisor <= n && n % divisor)
            divisor += 2;
        count += divisor * divisor > n;
    }
    return count;
}

static struct {
    u32 grain;
    u32 counted, unexamined;
    u32 tasks;
    u32 *share; /* numbers examined, by CPU index; may be NULL */
    bool done;
} job;

static void count_range(u64 first, u64 end) {
    while (end - first > job.grain) {
        u64 middle = first + (end - first) / 2;
        if (!sched_push(count_range, middle, end))
            break; /* the queue is full: examine the rest here */
        end = middle;
    }
    u32 primes = (u32)ring3_run(count_primes, first, end, 0), examined = (u32)(end - first);
    struct cpu *self = this_cpu();
    if (job.share)
        job.share[self->index] += examined;
    atomic_fetch_add(&job.tasks, 1);
    progress_note();
    atomic_fetch_add(&job.counted, primes);
    if (atomic_fetch_add(&job.unexamined, -examined) == examined) {
        atomic_store(&job.done, true);
        if (self->index != BSP)
            ipi_wake(cpus[BSP]);
    }
}

static u32 choose_grain(u32 limit, u64 microseconds) {
    u64 grains = microseconds / GRAIN_US;
    if (grains > cpu_count * GRAINS_PER_CPU)
        grains = cpu_count * GRAINS_PER_CPU;
    return limit / (u32)(grains < GRAINS_MIN ? GRAINS_MIN : grains) + 1;
}

static u64 run_job(u32 limit, u32 *share) {
    job.counted = job.tasks = 0;
    job.unexamined = limit;
    job.share = share;
    job.done = false;
    u64 start = rdtsc();
    sched_push(count_range, 0, limit);
    sched_until(&job.done);
    return rdtsc() - start;
}

/* The row of known[] whose job takes one CPU about `microseconds`. */
static u32 choose_count(u64 microseconds) {
    u64 start = rdtsc();
    ring3_run(count_primes, 0, known[TRIAL].limit, 0);
    u64 ticks = rdtsc() - start, target = clock_ticks_us(microseconds);
    u32 chosen = 0;
    while (chosen + 1 < lengthof(known) && ticks * known[chosen + 1].divisions / known[TRIAL].divisions <= target)
        chosen++;
    return chosen;
}

void measure_job(struct job_result *result) {
    u64 microseconds = options.quick ? TARGET_US_QUICK : TARGET_US + TARGET_US_PER_CPU * cpu_count;
    u32 chosen = choose_count(microseconds);
    result->limit = known[chosen].limit;
    result->expected = known[chosen].primes;
    job.grain = choose_grain(result->limit, microseconds);

    watchdog_enter("job on one CPU");
    sched_allow_stealing(false);
    result->ticks_by_one = run_job(result->limit, NULL);
    result->counted_by_one = job.counted;

    watchdog_enter("job on all CPUs");
    sched_allow_stealing(true);
    result->ticks_by_all = run_job(result->limit, result->share);
    result->counted_by_all = job.counted;
    result->tasks = job.tasks;
    for (u32 i = 0; i < cpu_count; i++)
        result->steals += cpus[i]->tasks_stolen;
}

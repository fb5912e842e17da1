/* measure.h: measurements once all CPUs are up. Times are in TSC ticks. */
#pragma once
#include "cpu.h"

struct spread {
    u32 count;
    u64 min, max, sum;
};

u64 spread_mean(const struct spread *spread);

struct ping_result {
    u32 pairs;       /* ordered pairs of CPUs */
    u32 rounds;      /* pings per pair */
    bool every_pair; /* otherwise a ring, and the BSP with each AP */
    struct spread round_trip;
    struct spread call;      /* call_on from the BSP, one per AP */
    struct spread broadcast; /* call_others, until the last CPU has answered */
    u32 calls_answered, broadcasts_answered, broadcasts_expected;
};
void measure_ipis(struct ping_result *result);

struct tsc_result {
    u32 compared;       /* APs compared with the BSP */
    u32 silent;         /* APs that did not take part before their deadline */
    u32 precise;        /* compared APs that had an exchange of less than 2 us */
    s64 max_offset;     /* among the precise: largest magnitude, AP minus BSP */
    u32 max_offset_cpu;
    u64 max_error;      /* among the precise: half of the longest exchange */
    u64 warp;           /* among all: the largest backward step between CPUs; 0: none */
    u32 warp_cpu;
};
void measure_tsc(struct tsc_result *result);

struct job_result {
    u32 limit;             /* primes below this number were counted */
    u32 expected;          /* the right count */
    u32 counted_by_one, counted_by_all;
    u64 ticks_by_one, ticks_by_all;
    u32 tasks, steals;     /* in the run on all CPUs */
    u32 share[MAX_CPUS];   /* numbers examined by each CPU in that run */
};
void measure_job(struct job_result *result);

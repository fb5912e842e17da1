/* faults.c: deliberate faults and the endless loop (faults.h). */
#include "faults.h"
#include "clock.h"
#include "patience.h"
#include "print.h"
#include "report.h"
#include "ring3.h"
#include "sched.h"

#define GIVE_UP_US 5000000
/* A canonical address above all mappings; tests look for it in CR2. */
#define UNMAPPED_ADDRESS 0x00007000DEAD0000

static void die_by_triple_fault(u64 a, u64 b) {
    (void)a, (void)b;
    load_idt(NULL, 0);
    asm volatile("ud2");
}

static void die_by_page_fault(u64 a, u64 b) {
    (void)a, (void)b;
    *(volatile u32 *)UNMAPPED_ADDRESS = 1;
}

_Noreturn static void die_on_last_cpu(task_function *die, const char *what) {
    struct cpu *victim = cpus[cpu_count - 1];
    print("%s on CPU %u, on purpose\n", what, victim->index);
    if (victim->index == BSP)
        die(0, 0);
    else
        sched_run_on(victim, die, 0, 0);
    static const u32 never;
    patience_wait(&never, 1, GIVE_UP_US);
    report_failure("CPU %u survived a deliberate %s", victim->index, what);
    report_end();
}

void fault_triple(void) { die_on_last_cpu(die_by_triple_fault, "triple fault"); }
void fault_exception(void) { die_on_last_cpu(die_by_page_fault, "page fault"); }

/* One cache line each, so that CPUs do not share them. */
static struct {
    u64 rounds __attribute__((aligned(64)));
} busy[MAX_CPUS];

static u64 count_until(u64 counter, u64 end, u64 unused) {
    (void)unused;
    while (rdtsc() < end)
        ++*(volatile u64 *)counter;
    return 0;
}

static void be_busy(u64 counter, u64 unused) {
    (void)unused;
    ring3_run(count_until, counter, ~0ull, 0);
}

/* Not print(), which is silent with `json`. */
static void print_heartbeat(u32 beat, u32 busy_cpus) {
    char bytes[64];
    struct text line = {bytes, 0, sizeof(bytes)};
    text_add(&line, "heartbeat %u: %u CPUs busy\n", beat, busy_cpus);
    print_bytes(bytes, line.length);
}

void loop_for_ever(void) {
    static u64 seen[MAX_CPUS];
    for (u32 i = 1; i < cpu_count; i++)
        sched_run_on(cpus[i], be_busy, (u64)&busy[i].rounds, 0);
    u64 second = clock_ticks_us(1000000), next = rdtsc() + second;
    for (u32 beat = 1;; beat++, next += second) {
        ring3_run(count_until, (u64)&busy[BSP].rounds, next, 0);
        u32 busy_cpus = 0;
        for (u32 i = 0; i < cpu_count; i++) {
            u64 rounds = atomic_load(&busy[i].rounds);
            busy_cpus += rounds != seen[i];
            seen[i] = rounds;
        }
        print_heartbeat(beat, busy_cpus);
    }
}

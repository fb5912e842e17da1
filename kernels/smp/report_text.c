/* report_text.c: the report as text. */
#include "clock.h"
#include "fpu.h"
#include "print.h"
#include "report.h"
#include "steal.h"

#define SHARES_LISTED 16

static const char *yes_no(bool value) { return value ? "yes" : "no"; }

/* Microseconds with one decimal, as two arguments for "%lu.%lu". */
#define TENTHS_US(ticks) clock_ns(ticks) / 1000, clock_ns(ticks) / 100 % 10

void report_text_agreement(void) {
    const struct agreement *a = &report.agreement;
    const struct cpu_topology *t = &cpus[BSP]->topology;
    print("Tables: MADT %s, %u CPUs; MP %s, %u CPUs; relation %s\n", yes_no(report.madt.present), report.madt.count,
          yes_no(report.mp.present), report.mp.count, table_relation_name(a->tables));
    print("CPUID: leaf 1 room for %u, leaf %s %u per package and %u per core, leaf 4 room for %u cores, ",
          t->logical_count, topology_leaf_name(t->levels_leaf), t->package.capacity, t->core.capacity, t->leaf4_cores);
    print("leaf 0x8000001E %s\n", yes_no(t->has_extended_id));
    for (u32 i = 0; i < a->complaint_count && i < MAX_COMPLAINTS; i++)
        print("  %s\n", a->complaints[i]);
    print("Agreement: %s (%u complaints)\n", yes_no(a->complaint_count == 0), a->complaint_count);
}

static void print_features(u32 bits) {
    print("%s%s%s%s", bits & FPU_X87 ? " x87" : "", bits & FPU_SSE ? " SSE" : "", bits & FPU_AVX ? " AVX" : "",
          bits & FPU_XSAVE ? " XSAVE" : "");
}

void report_text_cpus(void) {
    const struct cpu *bsp = cpus[BSP];
    u32 same = 0;
    for (u32 i = 0; i < cpu_count; i++)
        same += cpus[i]->fpu_enabled == bsp->fpu_enabled;
    u64 ring0 = fpu_ps_per_instruction(bsp->ring0_cycles_per_loop);
    u64 ring3 = fpu_ps_per_instruction(bsp->ring3_cycles_per_loop);
    print("Ring 0: %s, %lu.%03lu ns per instruction; ring 3: %lu.%03lu ns\n",
          bsp->ring0_emulated ? "emulated" : "native", ring0 / 1000, ring0 % 1000, ring3 / 1000, ring3 % 1000);
    print("Clock: TSC at %lu MHz (%s)\n", clock_khz() / 1000, clock_source());
    print("FPU: detected");
    print_features(bsp->fpu_detected);
    print("; enabled");
    print_features(bsp->fpu_enabled);
    if (bsp->fpu_enabled == 0)
        print(" none");
    print("%s on %u of %u CPUs, XCR0 0x%lx\n", bsp->ring0_emulated ? " (for ring 3 only)" : "", same, cpu_count,
          bsp->xcr0);
}

static void print_spread(const char *name, const struct spread *s) {
    print("%s: min %lu.%lu us, mean %lu.%lu us, max %lu.%lu us", name, TENTHS_US(s->min), TENTHS_US(spread_mean(s)),
          TENTHS_US(s->max));
}

static void print_job(const struct job_result *job) {
    print("Primes below %u: %u, by all %u, expected %u\n", job->limit, job->counted_by_one, job->counted_by_all,
          job->expected);
    u64 hundredths = job->ticks_by_all ? job->ticks_by_one * 100 / job->ticks_by_all : 0;
    print("Work stealing: one CPU %lu us, %u CPUs %lu us, speed-up %lu.%02lu; %u tasks, %u stolen\n",
          clock_us(job->ticks_by_one), cpu_count, clock_us(job->ticks_by_all), hundredths / 100, hundredths % 100,
          job->tasks, job->steals);
    u32 least = ~0u, most = 0, idle = 0;
    for (u32 i = 0; i < cpu_count; i++) {
        u32 permille = (u32)(job->share[i] * 1000ull / job->limit);
        if (i < SHARES_LISTED)
            print("%s CPU %u %u.%u%%", i ? "," : "Shares:", i, permille / 10, permille % 10);
        least = permille < least ? permille : least;
        most = permille > most ? permille : most;
        idle += job->share[i] == 0;
    }
    if (cpu_count > SHARES_LISTED)
        print(", and so on: least %u.%u%%, most %u.%u%%, %u CPUs none", least / 10, least % 10, most / 10, most % 10,
              idle);
    print("\n");
}

static void print_tsc(const struct tsc_result *tsc) {
    print("TSC: %u of %u CPUs compared, ", tsc->compared, cpu_count - 1);
    if (tsc->precise)
        print("%u to within 2 us: max offset %s%lu ns (CPU %u) +- %lu ns; ", tsc->precise,
              tsc->max_offset < 0 ? "-" : "",
              clock_ns((u64)(tsc->max_offset < 0 ? -tsc->max_offset : tsc->max_offset)), tsc->max_offset_cpu,
              clock_ns(tsc->max_error));
    else
        print("none to within 2 us, as when they share a host core; ");
    if (tsc->warp)
        print("warp of %lu ns, CPU %u\n", clock_ns(tsc->warp), tsc->warp_cpu);
    else
        print("no warp\n");
}

void report_text_measurements(void) {
    const struct ping_result *ping = &report.ping;
    const struct tsc_result *tsc = &report.tsc;
    if (cpu_count > 1) {
        print_spread("IPI ping", &ping->round_trip);
        print(" (%u %s pairs x %u)\n", ping->pairs, ping->every_pair ? "ordered" : "ring and BSP", ping->rounds);
        print_spread("Cross-CPU call", &ping->call);
        print(" (%u of %u answered)\n", ping->calls_answered, cpu_count - 1);
        print_spread("Broadcast", &ping->broadcast);
        print(" (%u of %u answered)\n", ping->broadcasts_answered, ping->broadcasts_expected);
        print_tsc(tsc);
    }
    print_job(&report.job);
}

void report_text_verdict(void) {
    print("Time: CPUs found after %lu us, online %lu us", clock_us(report.found_tsc - report.entry_tsc),
          clock_us(report.online_tsc - report.entry_tsc));
    if (report.compared_tsc)
        print(", pinged %lu us, TSCs compared %lu us", clock_us(report.pinged_tsc - report.entry_tsc),
              clock_us(report.compared_tsc - report.entry_tsc));
    print(", done %lu us\n", clock_us(report.end_tsc - report.entry_tsc));
    if (steal_is_known())
        print("Host: CPU 0 waited %lu us for a host CPU (steal time)\n", report.steal_us);
    if (report.failure_count == 0) {
        print("PASS\n");
        return;
    }
    print("FAIL: ");
    for (u32 i = 0; i < report.failure_count; i++)
        print("%s%s", i ? "; " : "", report.failures[i]);
    print("\n");
}

/* main.c: the steps of a boot, in order. README.md describes them. */
#include "alloc.h"
#include "apic.h"
#include "boot_info.h"
#include "clock.h"
#include "faults.h"
#include "options.h"
#include "panic.h"
#include "print.h"
#include "report.h"
#include "serial.h"
#include "steal.h"
#include "traps.h"
#include "watchdog.h"

static void start_bsp(void) {
    cpu_prepare(&bsp_block, BSP, 0);
    cpu_count = 1;
    traps_init();
    cpu_load(cpus[BSP]);
    traps_load();
    cpus[BSP]->state = CPU_ONLINE;
    clock_init();
    steal_start();
    apic_choose_mode();
    apic_enable();
    cpus[BSP]->apic_id = apic_id();
    print("%s enabled on BSP\n", apic_is_x2() ? "x2APIC" : "xAPIC");
    startup_examine(cpus[BSP]);
}

/* From the MADT if there is one, else from the MP tables, else only this CPU. */
static void find_cpus(void) {
    acpi_list_cpus(&report.madt);
    mptable_list_cpus(&report.mp);
    const struct cpu_list *list = report.madt.present ? &report.madt : &report.mp;
    report.cpu_source = report.madt.present ? "madt" : report.mp.present ? "mp" : "none";
    if (!startup_prepare(list))
        panic("out of memory", "preparing CPUs");
    report.found_tsc = rdtsc();
    print("Found %u CPUs\n", cpu_count);
}

static void start_aps(void) {
    struct startup *startup = &report.startup;
    startup_run(startup);
    report.online_tsc = rdtsc();
    if (startup->error)
        report_failure("%s", startup->error);
    if (startup->missing)
        report_failure("CPU %u (APIC ID %u) did not come up: %s", startup->missing->index, startup->missing->apic_id,
                       startup->missing_started ? "it started, but never checked in"
                                                : "it did not react to two startup IPIs");
    if (report.failure_count)
        report_end();
    print("All CPUs started!\n");
}

static void measure(void) {
    watchdog_enter("agreement");
    agreement_check(&report.madt, &report.mp, &report.agreement);
    report_text_agreement();
    report_text_cpus();
    measure_ipis(&report.ping);
    report.pinged_tsc = rdtsc();
    measure_tsc(&report.tsc);
    report.compared_tsc = rdtsc();
    measure_job(&report.job);
    report_text_measurements();
    report_judge();
}

_Noreturn void main(u32 magic, u32 pointer, u64 entry_tsc) {
    report.entry_tsc = entry_tsc;
    boot_info_read(magic, pointer);
    options_read(boot_info.command_line);
    serial_init();
    if (options.json)
        print_silence();
    print("Volt SMP kernel, booted by %s, %lu MiB of RAM\n", boot_info.protocol, boot_info.ram_bytes >> 20);
    alloc_init();
    start_bsp();
    watchdog_start();
    find_cpus();
    start_aps();
    if (options.loop) {
        watchdog_stop();
        loop_for_ever();
    }
    if (options.fault == FAULT_TRIPLE)
        fault_triple();
    if (options.fault == FAULT_EXCEPTION)
        fault_exception();
    if (options.fault == FAULT_SILENT_AP)
        report_failure("fault=silent-ap needs at least 2 CPUs");
    measure();
    report_end();
}

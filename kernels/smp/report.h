/* report.h: the results of a boot, as text and as JSON. */
#pragma once
#include "agreement.h"
#include "measure.h"
#include "startup.h"

#define MAX_FAILURES 4
#define FAILURE_BYTES 120

struct report {
    struct cpu_list madt, mp;
    const char *cpu_source; /* "madt", "mp" or "none" */
    struct startup startup;
    struct agreement agreement;
    struct ping_result ping;
    struct tsc_result tsc;
    struct job_result job;
    u64 entry_tsc, found_tsc, online_tsc, pinged_tsc, compared_tsc, end_tsc; /* when each step was done */
    u64 steal_us; /* until end_tsc */

    u32 failure_count;
    char failures[MAX_FAILURES][FAILURE_BYTES];
};

extern struct report report;

/* Adds a reason for the verdict FAIL. */
__attribute__((format(printf, 1, 2))) void report_failure(const char *format, ...);

/* Adds the failures that follow from the measurements. */
void report_judge(void);

/* The text appears step by step, the JSON in one line at the end. */
void report_text_agreement(void);
void report_text_cpus(void);
void report_text_measurements(void);
void report_text_verdict(void);
void report_json(void);

/* Prints the verdict as text or JSON and ends the machine. */
_Noreturn void report_end(void);

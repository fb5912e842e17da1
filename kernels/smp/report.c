/* report.c: the verdict, which report_text.c and report_json.c print. */
#include "report.h"
#include "exit.h"
#include "options.h"
#include "print.h"
#include "steal.h"

struct report report;

void report_failure(const char *format, ...) {
    if (report.failure_count == MAX_FAILURES)
        return;
    struct text text = {report.failures[report.failure_count++], 0, FAILURE_BYTES - 1};
    va_list arguments;
    va_start(arguments, format);
    text_vadd(&text, format, arguments);
    va_end(arguments);
}

/* A TSC warp is reported, but is no failure: guests can cope with it, and on a
 * nested host the VMM under test is not the cause. */
void report_judge(void) {
    const struct agreement *agreement = &report.agreement;
    const struct ping_result *ping = &report.ping;
    const struct job_result *job = &report.job;
    if (agreement->complaint_count)
        report_failure("tables and CPUID disagree: %s", agreement->complaints[0]);
    if (ping->calls_answered != cpu_count - 1)
        report_failure("%u of %u calls answered", ping->calls_answered, cpu_count - 1);
    if (ping->broadcasts_answered != ping->broadcasts_expected)
        report_failure("%u of %u broadcasts answered", ping->broadcasts_answered, ping->broadcasts_expected);
    if (job->counted_by_one != job->expected || job->counted_by_all != job->expected)
        report_failure("counted %u and %u primes below %u (expected %u)", job->counted_by_one, job->counted_by_all,
                       job->limit, job->expected);
    if (report.tsc.silent)
        report_failure("%u CPUs did not take part in the TSC comparison", report.tsc.silent);
}

void report_end(void) {
    report.end_tsc = rdtsc();
    report.steal_us = steal_us();
    if (options.json)
        report_json();
    else
        report_text_verdict();
    machine_exit(report.failure_count ? EXIT_FAIL : EXIT_PASS);
}

/*
 * report_json.c: the report as one line of JSON (schema in README.md). Per-CPU
 * values are arrays by CPU index, so that a report about 1024 CPUs stays short.
 */
#include "apic.h"
#include "boot_info.h"
#include "clock.h"
#include "fpu.h"
#include "print.h"
#include "report.h"
#include "steal.h"

#define CHUNK_BYTES 2048
#define FLUSH_ABOVE (CHUNK_BYTES - 512) /* no single addition is longer than the rest */

static char chunk[CHUNK_BYTES];
static struct text json = {chunk, 0, CHUNK_BYTES};

static void flush(void) {
    print_bytes(json.bytes, json.length);
    json.length = 0;
}

__attribute__((format(printf, 1, 2))) static void add(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_vadd(&json, format, arguments);
    va_end(arguments);
    if (json.length > FLUSH_ABOVE)
        flush();
}

static const char *boolean(bool value) { return value ? "true" : "false"; }

/* Escapes quotes, backslashes and control characters (RFC 8259 §7). */
static void add_string(const char *string) {
    add("\"");
    for (; *string; string++) {
        u8 c = (u8)*string;
        char plain[2] = {(char)c, 0};
        if (c < 0x20 || c >= 0x7F)
            add("\\u%04x", (u32)c);
        else
            add("%s%s", c == '"' || c == '\\' ? "\\" : "", plain);
    }
    add("\"");
}

static void add_features(const char *name, u32 bits) {
    static const char *const names[] = {"x87", "sse", "avx", "xsave"};
    add("\"%s\":[", name);
    const char *comma = "";
    for (u32 i = 0; i < lengthof(names); i++)
        if (bits & 1u << i) {
            add("%s\"%s\"", comma, names[i]);
            comma = ",";
        }
    add("]");
}

static void add_spread(const char *name, const struct spread *s) {
    add("\"%s\":{\"count\":%u,\"minNs\":%lu,\"meanNs\":%lu,\"maxNs\":%lu}", name, s->count, clock_ns(s->min),
        clock_ns(spread_mean(s)), clock_ns(s->max));
}

static void add_list(const char *name, const struct cpu_list *list) {
    add("\"%s\":{\"present\":%s,\"cpus\":%u,\"ignored\":%u}", name, boolean(list->present), list->count, list->ignored);
}

/* An array of one unsigned value per CPU. */
#define ADD_ARRAY(name, expression)                        \
    do {                                                   \
        add("\"" name "\":[");                             \
        for (u32 i = 0; i < cpu_count; i++)                \
            add("%s%u", i ? "," : "", (u32)(expression)); \
        add("]");                                          \
    } while (0)

static void add_boot(void) {
    add("\"boot\":{\"protocol\":\"%s\",\"cmdline\":", boot_info.protocol);
    add_string(boot_info.command_line);
    add(",\"ramBytes\":%lu,\"apic\":\"%s\",\"tscKhz\":%lu,\"tscSource\":\"%s\"},", boot_info.ram_bytes,
        apic_is_x2() ? "x2apic" : "xapic", clock_khz(), clock_source());
}

static void add_cpus(void) {
    const struct cpu *bsp = cpus[BSP];
    add("\"cpus\":{\"found\":%u,\"online\":%u,\"source\":\"%s\",\"secondSipis\":%u,", cpu_count, report.startup.online,
        report.cpu_source, report.startup.second_sipis);
    ADD_ARRAY("apicIds", cpus[i]->apic_id);
    add("},\"execution\":{\"ring0\":\"%s\",\"ring0PsPerInstruction\":%lu,\"ring3PsPerInstruction\":%lu},",
        bsp->ring0_emulated ? "emulated" : "native", fpu_ps_per_instruction(bsp->ring0_cycles_per_loop),
        fpu_ps_per_instruction(bsp->ring3_cycles_per_loop));
    u32 same = 0;
    for (u32 i = 0; i < cpu_count; i++)
        same += cpus[i]->fpu_enabled == bsp->fpu_enabled;
    add("\"fpu\":{");
    add_features("detected", bsp->fpu_detected);
    add(",");
    add_features("enabled", bsp->fpu_enabled);
    add(",\"sameOnCpus\":%u,\"xcr0\":%lu},", same, bsp->xcr0);
}

static void add_agreement(void) {
    const struct agreement *a = &report.agreement;
    const struct cpu_topology *t = &cpus[BSP]->topology;
    add("\"tables\":{");
    add_list("madt", &report.madt);
    add(",");
    add_list("mp", &report.mp);
    add(",\"relation\":\"%s\"},\"cpuid\":{\"agrees\":%s,\"leaf1Count\":%u,\"packageThreads\":%u,\"threadsPerCore\":%u,"
        "\"leaf4Cores\":%u,\"hasExtendedId\":%s,",
        table_relation_name(a->tables), boolean(a->cpuid), t->logical_count, t->package.capacity, t->core.capacity,
        t->leaf4_cores, boolean(t->has_extended_id));
    ADD_ARRAY("initialApicIds", cpus[i]->topology.initial_apic_id);
    add(",");
    ADD_ARRAY("x2apicIds", cpus[i]->topology.x2apic_id);
    add("},\"agree\":%s,\"complaints\":[", boolean(a->complaint_count == 0));
    for (u32 i = 0; i < a->complaint_count && i < MAX_COMPLAINTS; i++) {
        add("%s", i ? "," : "");
        add_string(a->complaints[i]);
    }
    add("],");
}

static void add_measurements(void) {
    const struct ping_result *ping = &report.ping;
    const struct tsc_result *tsc = &report.tsc;
    const struct job_result *job = &report.job;
    add("\"ping\":{\"pairs\":%u,\"rounds\":%u,\"everyPair\":%s,", ping->pairs, ping->rounds, boolean(ping->every_pair));
    add_spread("roundTrip", &ping->round_trip);
    add("},\"calls\":{\"made\":%u,\"answered\":%u,", ping->call.count, ping->calls_answered);
    add_spread("time", &ping->call);
    add("},\"broadcast\":{\"expected\":%u,\"answered\":%u,", ping->broadcasts_expected, ping->broadcasts_answered);
    add_spread("time", &ping->broadcast);
    bool behind = tsc->max_offset < 0;
    add("},\"tsc\":{\"compared\":%u,\"silent\":%u,\"precise\":%u,", tsc->compared, tsc->silent, tsc->precise);
    add("\"maxOffsetNs\":%s%lu,\"maxOffsetCpu\":%u,\"maxErrorNs\":%lu,", behind ? "-" : "",
        clock_ns((u64)(behind ? -tsc->max_offset : tsc->max_offset)), tsc->max_offset_cpu, clock_ns(tsc->max_error));
    add("\"warp\":%s,\"warpNs\":%lu,\"warpCpu\":%u},", boolean(tsc->warp), clock_ns(tsc->warp), tsc->warp_cpu);
    u64 hundredths = job->ticks_by_all ? job->ticks_by_one * 100 / job->ticks_by_all : 0;
    add("\"job\":{\"limit\":%u,\"expected\":%u,\"countedByOne\":%u,\"countedByAll\":%u,\"oneUs\":%lu,\"allUs\":%lu,"
        "\"speedup\":%lu.%02lu,\"tasks\":%u,\"steals\":%u,",
        job->limit, job->expected, job->counted_by_one, job->counted_by_all, clock_us(job->ticks_by_one),
        clock_us(job->ticks_by_all), hundredths / 100, hundredths % 100, job->tasks, job->steals);
    ADD_ARRAY("share", job->share[i]);
    add("},");
}

void report_json(void) {
    bool complete = report.startup.online == cpu_count && !report.startup.error;
    add("{\"kernel\":\"volt-smp\",\"schema\":1,\"verdict\":\"%s\",", report.failure_count ? "fail" : "pass");
    add("\"failures\":[");
    for (u32 i = 0; i < report.failure_count; i++) {
        add("%s", i ? "," : "");
        add_string(report.failures[i]);
    }
    add("],");
    add_boot();
    add_cpus();
    if (complete) { /* otherwise there are no comparisons and measurements */
        add_agreement();
        add_measurements();
    }
    if (steal_is_known())
        add("\"host\":{\"stealUs\":%lu},", report.steal_us);
    add("\"timeUs\":{\"found\":%lu,\"online\":%lu,", clock_us(report.found_tsc - report.entry_tsc),
        clock_us(report.online_tsc - report.entry_tsc));
    if (complete)
        add("\"pinged\":%lu,\"compared\":%lu,", clock_us(report.pinged_tsc - report.entry_tsc),
            clock_us(report.compared_tsc - report.entry_tsc));
    add("\"done\":%lu}}\n", clock_us(report.end_tsc - report.entry_tsc));
    flush();
}

/*
 * agreement.c: compares four sources about the CPUs: the MADT, the MP tables,
 * CPUID on each CPU, and the ID register of each local APIC (an AP finds its
 * `struct cpu` by that register, trampoline.S).
 */
#include "agreement.h"
#include "print.h"

#define INITIAL_ID_MASK 0xFF /* the initial APIC ID in CPUID leaf 1 has 8 bits */
#define MP_MAX_ID 0xFE       /* so has the APIC ID in an MP entry; 0xFF is broadcast */
#define LEAF1_COUNT_MAX 0xFF /* larger counts saturate here */
#define LEAF4_CORES_MAX 64

__attribute__((format(printf, 2, 3))) static void complain(struct agreement *agreement, const char *format, ...) {
    u32 index = agreement->complaint_count++;
    if (index >= MAX_COMPLAINTS)
        return;
    struct text text = {agreement->complaints[index], 0, COMPLAINT_BYTES - 1};
    va_list arguments;
    va_start(arguments, format);
    text_vadd(&text, format, arguments);
    va_end(arguments);
}

static bool has(const struct cpu_list *list, u32 id) { return bitmap_test(list->ids, id); }

/* MPS 1.4 predates packages with several CPUs. Firmware that follows it to the
 * letter lists one CPU per package: the one whose other ID bits are zero. */
static bool is_first_of_package(u32 id) {
    u32 shift = cpus[BSP]->topology.package.shift;
    return (id & ((1u << shift) - 1)) == 0;
}

static enum table_relation compare_tables(const struct cpu_list *madt, const struct cpu_list *mp,
                                          struct agreement *agreement) {
    if (!madt->present && !mp->present)
        return TABLES_NONE;
    if (!madt->present || !mp->present)
        return TABLES_ONE;
    u32 only_madt = 0, only_mp = 0;
    bool per_package = true;
    u32 example_madt = 0, example_mp = 0;
    for (u32 i = 0; i < madt->count; i++) {
        u32 id = madt->order[i];
        if (has(mp, id) || id > MP_MAX_ID)
            continue;
        only_madt++;
        example_madt = id;
        per_package &= !is_first_of_package(id);
    }
    for (u32 i = 0; i < mp->count; i++) {
        per_package &= is_first_of_package(mp->order[i]);
        if (has(madt, mp->order[i]))
            continue;
        only_mp++;
        example_mp = mp->order[i];
    }
    if (!only_madt && !only_mp)
        return TABLES_SAME;
    if (!only_mp && per_package)
        return TABLES_PER_PACKAGE;
    if (only_madt)
        complain(agreement, "the MADT lists %u CPUs that the MP tables do not, such as APIC ID %u", only_madt,
                 example_madt);
    if (only_mp)
        complain(agreement, "the MP tables list %u CPUs that the MADT does not, such as APIC ID %u", only_mp,
                 example_mp);
    return TABLES_DIFFER;
}

static void check_list(const struct cpu_list *list, const char *name, struct agreement *agreement) {
    u32 id = cpus[BSP]->apic_id;
    if (!list->present)
        return;
    if (!has(list, id) && id <= MP_MAX_ID)
        complain(agreement, "%s does not list the BSP, APIC ID %u", name, id);
    if (list->ignored)
        complain(agreement, "%s lists %u CPUs that cannot be started here", name, list->ignored);
    if (list->marked_bsp >= 0 && (u32)list->marked_bsp != id)
        complain(agreement, "%s marks APIC ID %u as the BSP, but the BSP has %u", name, (u32)list->marked_bsp, id);
}

static void check_ids(const struct cpu *cpu, struct agreement *agreement) {
    const struct cpu_topology *t = &cpu->topology;
    if (t->initial_apic_id != (cpu->apic_id & INITIAL_ID_MASK))
        complain(agreement, "CPU %u: APIC ID %u in CPUID 1, %u in its APIC", cpu->index, t->initial_apic_id,
                 cpu->apic_id);
    if (t->levels_leaf && t->x2apic_id != cpu->apic_id)
        complain(agreement, "CPU %u: APIC ID %u in CPUID %s, %u in its APIC", cpu->index, t->x2apic_id,
                 topology_leaf_name(t->levels_leaf), cpu->apic_id);
    if (t->has_extended_id && t->extended_apic_id != cpu->apic_id)
        complain(agreement, "CPU %u: APIC ID %u in CPUID 0x8000001E, %u in its APIC", cpu->index, t->extended_apic_id,
                 cpu->apic_id);
}

static u32 smaller(u32 a, u32 b) { return a < b ? a : b; }

/* The rule of topology.h. `started`: CPUs that are up in this CPU's domain, itself included. */
static void check_level(const struct cpu *cpu, const struct cpu_level *level, const char *domain, u32 started,
                        struct agreement *agreement) {
    const char *leaf = topology_leaf_name(cpu->topology.levels_leaf);
    if (level->capacity == 0)
        return;
    if (started > level->capacity)
        complain(agreement, "CPU %u: CPUID %s has room for %u CPUs in its %s, there are %u", cpu->index, leaf,
                 level->capacity, domain, started);
    if (level->capacity > 1u << level->shift)
        complain(agreement, "CPU %u: CPUID %s has room for %u CPUs in its %s, but %u bits of APIC ID", cpu->index,
                 leaf, level->capacity, domain, level->shift);
}

/* Leaves 1 and 4 give numbers of addressable IDs, which may exceed the number of CPUs. */
static void check_legacy_counts(const struct cpu *cpu, u32 package_cpus, struct agreement *agreement) {
    const struct cpu_topology *t = &cpu->topology;
    if (t->logical_count && t->logical_count < smaller(package_cpus, LEAF1_COUNT_MAX))
        complain(agreement, "CPU %u: CPUID 1 has room for %u CPUs in its package, there are %u", cpu->index,
                 t->logical_count, package_cpus);
    u32 threads = t->core.capacity ? t->core.capacity : 1;
    if (t->leaf4_cores && t->leaf4_cores < smaller(package_cpus / threads, LEAF4_CORES_MAX))
        complain(agreement, "CPU %u: CPUID 4 has room for %u cores in its package, there are %u", cpu->index,
                 t->leaf4_cores, package_cpus / threads);
}

/* CPUs that are up in each core and package. Without leaf 0xB all CPUs are in package 0. */
static u16 core_cpus[MAX_APIC_ID], package_cpus[MAX_APIC_ID];

static u32 core_of(const struct cpu *cpu) { return cpu->apic_id >> cpu->topology.core.shift; }

static u32 package_of(const struct cpu *cpu) {
    return cpu->topology.levels_leaf ? cpu->apic_id >> cpu->topology.package.shift : 0;
}

static void check_cpuid(struct agreement *agreement) {
    for (u32 i = 0; i < cpu_count; i++) {
        core_cpus[core_of(cpus[i])]++;
        package_cpus[package_of(cpus[i])]++;
    }
    for (u32 i = 0; i < cpu_count; i++) {
        const struct cpu *cpu = cpus[i];
        u32 in_core = core_cpus[core_of(cpu)], in_package = package_cpus[package_of(cpu)];
        check_ids(cpu, agreement);
        check_level(cpu, &cpu->topology.core, "core", in_core, agreement);
        check_level(cpu, &cpu->topology.package, "package", in_package, agreement);
        check_legacy_counts(cpu, in_package, agreement);
    }
}

void agreement_check(const struct cpu_list *madt, const struct cpu_list *mp, struct agreement *agreement) {
    agreement->tables = compare_tables(madt, mp, agreement);
    check_list(madt, "the MADT", agreement);
    check_list(mp, "the MP table", agreement);
    if (madt->defect)
        complain(agreement, "%s", madt->defect);
    if (mp->defect)
        complain(agreement, "%s", mp->defect);

    u32 before = agreement->complaint_count;
    check_cpuid(agreement);
    agreement->cpuid = agreement->complaint_count == before;
}

const char *table_relation_name(enum table_relation relation) {
    static const char *const names[] = {"none", "one", "same", "per-package", "differ"};
    return names[relation];
}

/*
 * topology.c: SDM Vol 2A, CPUID leaves 1, 4, 0xB and 0x1F (Vol 3A §9.9 defines
 * the levels); AMD APM Vol 3 Appendix E, leaf 0x8000001E.
 */
#include "topology.h"

#define CPUID1_EDX_HTT (1u << 28)
#define CPUID80000001_ECX_TOPOEXT (1u << 22)
#define LEVEL_THREAD 1
#define LEVELS_MAX 8

/* Returns whether the leaf has levels. The SDM recommends 0x1F over 0xB. */
static bool read_levels(struct cpu_topology *topology, u32 leaf) {
    for (u32 i = 0; i < LEVELS_MAX; i++) {
        struct cpuid_regs regs = cpuid(leaf, i);
        u32 type = regs.ecx >> 8 & 0xFF;
        struct cpu_level level = {.shift = regs.eax & 0x1F, .capacity = regs.ebx & 0xFFFF};
        if (type == 0 || level.capacity == 0)
            break;
        topology->levels_leaf = leaf;
        topology->x2apic_id = regs.edx;
        /* Levels begin with the thread; the last one gives the package. */
        topology->package = level;
        if (type == LEVEL_THREAD)
            topology->core = level;
    }
    return topology->levels_leaf != 0;
}

void topology_read(struct cpu_topology *topology) {
    u32 max = cpuid(0, 0).eax;
    struct cpuid_regs leaf1 = cpuid(1, 0);
    topology->initial_apic_id = leaf1.ebx >> 24;
    topology->logical_count = leaf1.edx & CPUID1_EDX_HTT ? leaf1.ebx >> 16 & 0xFF : 1;
    if (max >= 4) {
        u32 eax = cpuid(4, 0).eax;
        topology->leaf4_cores = eax & 0x1F ? (eax >> 26) + 1 : 0; /* cache type 0: no leaf 4 */
    }
    if (max < 0x1F || !read_levels(topology, 0x1F))
        if (max >= 0xB)
            read_levels(topology, 0xB);
    if (cpuid(0x80000000, 0).eax >= 0x8000001E && cpuid(0x80000001, 0).ecx & CPUID80000001_ECX_TOPOEXT) {
        topology->has_extended_id = true;
        topology->extended_apic_id = cpuid(0x8000001E, 0).eax;
    }
}

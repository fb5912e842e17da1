/*
 * topology.c: SDM Vol 2A CPUID leaves 1, 4, 0xB (and Vol 3A §9.9 for what the
 * levels mean); AMD APM Vol 3 Appendix E, leaf 0x8000001E.
 */
#include "topology.h"

#define CPUID1_EDX_HTT (1u << 28)
#define CPUID80000001_ECX_TOPOEXT (1u << 22)
#define LEVEL_THREAD 1
#define LEVELS_MAX 8

static void read_levels(struct cpu_topology *topology) {
    for (u32 i = 0; i < LEVELS_MAX; i++) {
        struct cpuid_regs level = cpuid(0xB, i);
        u32 type = level.ecx >> 8 & 0xFF;
        if (type == 0 || (level.ebx & 0xFFFF) == 0)
            return;
        topology->has_x2apic_id = true;
        topology->x2apic_id = level.edx;
        /* Levels go outwards: the last one is the package. */
        topology->package_shift = level.eax & 0x1F;
        topology->package_threads = level.ebx & 0xFFFF;
        if (type == LEVEL_THREAD)
            topology->threads_per_core = level.ebx & 0xFFFF;
    }
}

void topology_read(struct cpu_topology *topology) {
    u32 max = cpuid(0, 0).eax;
    struct cpuid_regs leaf1 = cpuid(1, 0);
    topology->initial_apic_id = leaf1.ebx >> 24;
    topology->logical_count = leaf1.edx & CPUID1_EDX_HTT ? leaf1.ebx >> 16 & 0xFF : 1;
    if (max >= 4) {
        u32 eax = cpuid(4, 0).eax;
        topology->leaf4_cores = eax & 0x1F ? (eax >> 26) + 1 : 0; /* type 0: no cache, no leaf */
    }
    if (max >= 0xB)
        read_levels(topology);
    if (cpuid(0x80000000, 0).eax >= 0x8000001E && cpuid(0x80000001, 0).ecx & CPUID80000001_ECX_TOPOEXT) {
        topology->has_extended_id = true;
        topology->extended_apic_id = cpuid(0x8000001E, 0).eax;
    }
}

/* topology.h: package, core and APIC ID of a CPU, from its CPUID. */
#pragma once
#include "x86.h"

/*
 * A level of leaf 0x1F or 0xB. All CPUs whose APIC IDs are equal after a right
 * shift by `shift` share the level's domain: a core for the thread level, the
 * package for the last one. `capacity` (EBX) is how many logical CPUs the
 * domain has room for. The SDM calls it "for display": CPUs may be absent,
 * disabled, or plugged in later. So only this holds (agreement.c):
 *
 *     CPUs started in the domain <= capacity <= 2^shift
 */
struct cpu_level {
    u32 shift, capacity; /* capacity 0: CPUID does not have this level */
};

struct cpu_topology {
    u32 initial_apic_id;   /* leaf 1 EBX[31:24]: 8 bits */
    u32 logical_count;     /* leaf 1 EBX[23:16] if HTT, else 1; 0: not given */
    u32 levels_leaf;       /* leaf that has the levels: 0x1F or 0xB; 0: neither */
    u32 x2apic_id;         /* its EDX: 32 bits */
    struct cpu_level core, package;
    u32 leaf4_cores;       /* leaf 4 EAX[31:26] + 1; 0: no leaf 4 */
    bool has_extended_id;  /* AMD with TOPOEXT */
    u32 extended_apic_id;  /* leaf 0x8000001E EAX */
};

void topology_read(struct cpu_topology *topology);

/* Name of levels_leaf, for messages. */
static inline const char *topology_leaf_name(u32 leaf) { return leaf == 0x1F ? "0x1F" : "0xB"; }

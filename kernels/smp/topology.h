/* topology.h: what CPUID says on one CPU about its place in the machine. */
#pragma once
#include "x86.h"

struct cpu_topology {
    u32 initial_apic_id;   /* leaf 1 EBX[31:24]: 8 bits */
    u32 logical_count;     /* leaf 1 EBX[23:16] if HTT, else 1; 0: not said */
    bool has_x2apic_id;    /* leaf 0xB is filled in */
    u32 x2apic_id;         /* leaf 0xB EDX: 32 bits */
    u32 package_shift;     /* leaf 0xB: id >> shift names the package */
    u32 package_threads;   /* leaf 0xB: logical CPUs in the package; 0: not said */
    u32 threads_per_core;  /* leaf 0xB level 1; 0: not said */
    u32 leaf4_cores;       /* leaf 4 EAX[31:26] + 1; 0: no leaf 4 */
    bool has_extended_id;  /* AMD with TOPOEXT */
    u32 extended_apic_id;  /* leaf 0x8000001E EAX */
};

void topology_read(struct cpu_topology *topology);

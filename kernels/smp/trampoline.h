/*
 * trampoline.h: the page in which APs start (trampoline.S), and the parameters that
 * the BSP writes into its copy below 1 MiB (startup.c).
 */
#pragma once

/* The vector of a startup IPI is the number of a page below 1 MiB (SDM Vol 3A §9.4.4.1). */
#define TRAMPOLINE_DEFAULT 0x8000
#define TRAMPOLINE_BYTES 4096

/* Offsets in struct trampoline_parameters. */
#define PARAM_SLOTS 0
#define PARAM_ENTRY 8
#define PARAM_CR3 16
#define PARAM_MAX_APIC_ID 20
#define PARAM_X2APIC 24

#ifndef __ASSEMBLER__
#include "x86.h"

struct cpu;

struct trampoline_parameters {
    struct cpu **slots; /* by APIC ID; an AP takes its own and leaves NULL */
    void (*entry)(struct cpu *);
    u32 cr3, max_apic_id, x2apic;
};
_Static_assert(offsetof(struct trampoline_parameters, x2apic) == PARAM_X2APIC, "trampoline.S");
_Static_assert(offsetof(struct trampoline_parameters, cr3) == PARAM_CR3, "trampoline.S");

extern const u8 trampoline_start[], trampoline_parameters[], trampoline_end[];
/* Offsets of the 32-bit fields to which the address of the copy must be added. */
extern const u16 trampoline_relocations[], trampoline_relocations_end[];
#endif

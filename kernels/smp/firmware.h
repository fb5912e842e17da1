/*
 * firmware.h: the APIC IDs that the MADT and the MP tables list, and the search
 * for such tables.
 */
#pragma once
#include "atomic.h"
#include "cpu.h"

struct cpu_list {
    bool present;
    u32 count; /* enabled CPUs, each ID once */
    u64 ids[BITMAP_WORDS(MAX_APIC_ID)];
    u32 order[MAX_CPUS]; /* IDs in the order of the table */
    u32 ignored;         /* listed CPUs beyond MAX_CPUS, or with an ID too large for the APIC mode */
    int marked_bsp;      /* ID of the entry marked as the BSP; -1: none is */
    const char *defect;  /* what is wrong with a table that was found, or NULL */
};

/* ACPI MADT and MultiProcessor configuration table. */
void acpi_list_cpus(struct cpu_list *list);
void mptable_list_cpus(struct cpu_list *list);

/* Adds an ID; one that is already in the list is not added again. */
void cpu_list_add(struct cpu_list *list, u32 apic_id);

/* The first address in [start, end), a multiple of 16, that has the `length`
 * bytes of `signature`; 0 if there is none. */
u64 firmware_scan(u64 start, u64 end, const char *signature, u32 length);

/* The extended BIOS data area, or 0. ACPI and MPS tables may be in its first KiB. */
u64 firmware_ebda(void);

/* Whether the bytes sum up to 0 modulo 256. */
bool firmware_checksum_ok(const void *table, u32 bytes);

#define FIRMWARE_MAPPED_END 0x100000000ull
#define FIRMWARE_TABLE_MAX 0x100000 /* no table that lists CPUs is larger */

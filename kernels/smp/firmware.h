/*
 * firmware.h: the CPUs that firmware tables list, and where such tables hide.
 *
 * Both tables give a set of APIC ids; sets are compared as bitmaps.
 */
#pragma once
#include "atomic.h"
#include "cpu.h"

struct cpu_list {
    bool present;
    u32 count; /* enabled CPUs, each id once */
    u64 ids[BITMAP_WORDS(MAX_APIC_ID)];
    u32 order[MAX_CPUS]; /* ids as listed */
    u32 ignored;         /* listed, but their ids too large or they too many for us */
    int marked_bsp;      /* id that the table calls the BSP; -1: it does not say */
    const char *defect;  /* why a table that was found is not believed, or NULL */
};

/* ACPI MADT and MultiProcessor configuration table. */
void acpi_list_cpus(struct cpu_list *list);
void mptable_list_cpus(struct cpu_list *list);

/* Adds an id, once. */
void cpu_list_add(struct cpu_list *list, u32 apic_id);

/* The first multiple of 16 in [start, end) where the `length` bytes of
 * `signature` stand; 0 if none. */
u64 firmware_scan(u64 start, u64 end, const char *signature, u32 length);

/* Both specs search the first KiB of the extended BIOS data area. */
u64 firmware_ebda(void); /* 0: none */

/* Whether the bytes add up to zero modulo 256. */
bool firmware_checksum_ok(const void *table, u32 bytes);

#define FIRMWARE_MAPPED_END 0x100000000ull
#define FIRMWARE_TABLE_MAX 0x100000 /* no table that lists CPUs is larger */

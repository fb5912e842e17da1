/*
 * firmware.c: common code of the ACPI and MP table parsers. Scans and checksums
 * read up to 128 KiB, so they run in ring 3 (ring3.h).
 */
#include "firmware.h"
#include "apic.h"
#include "ring3.h"

#define BDA_EBDA_SEGMENT 0x40E
#define LOW_MEMORY_END 0xA0000

void cpu_list_add(struct cpu_list *list, u32 apic_id) {
    u32 max = apic_is_x2() ? MAX_APIC_ID - 1 : XAPIC_MAX_ID;
    if (apic_id <= max && bitmap_test(list->ids, apic_id))
        return;
    if (apic_id > max || list->count == MAX_CPUS) {
        list->ignored++;
        return;
    }
    bitmap_set(list->ids, apic_id);
    list->order[list->count++] = apic_id;
}

/* The signature as a number, and a mask of the bytes that it has. */
struct scan {
    u64 end, signature, mask;
};

static u64 scan_in_ring3(u64 start, u64 scan_pointer, u64 unused) {
    (void)unused;
    const struct scan *scan = (const void *)scan_pointer;
    for (u64 at = start; at + 16 <= scan->end; at += 16)
        if ((*(const volatile u64 *)at & scan->mask) == scan->signature)
            return at;
    return 0;
}

u64 firmware_scan(u64 start, u64 end, const char *signature, u32 length) {
    struct scan scan = {.end = end};
    for (u32 i = 0; i < length; i++) {
        scan.signature |= (u64)(u8)signature[i] << (8 * i);
        scan.mask |= 0xFFull << (8 * i);
    }
    return ring3_run(scan_in_ring3, (start + 15) & ~15ull, (u64)&scan, 0);
}

u64 firmware_ebda(void) {
    u64 ebda = (u64) * (const volatile u16 *)BDA_EBDA_SEGMENT << 4;
    return ebda >= 0x400 && ebda < LOW_MEMORY_END ? ebda : 0;
}

static u64 sum_in_ring3(u64 start, u64 bytes, u64 unused) {
    (void)unused;
    u8 sum = 0;
    for (u64 at = start; at < start + bytes; at++)
        sum += *(const volatile u8 *)at;
    return sum;
}

bool firmware_checksum_ok(const void *table, u32 bytes) { return ring3_run(sum_in_ring3, (u64)table, bytes, 0) == 0; }

/*
 * mptable.c: Intel MultiProcessor Specification 1.4 §4.1 (MP floating pointer
 * structure and its locations), §4.2 (configuration table header), §4.3.1
 * (processor entries).
 */
#include "firmware.h"
#include "string.h"

#define BDA_BASE_MEMORY_KIB 0x413
#define BIOS_ROM_START 0xF0000
#define BIOS_ROM_END 0x100000

struct __attribute__((packed)) floating_pointer {
    char signature[4];
    u32 table;
    u8 length, revision, checksum; /* length in units of 16 bytes */
    u8 default_configuration, features[4];
};

struct __attribute__((packed)) table_header {
    char signature[4];
    u16 length;
    u8 revision, checksum;
    char oem[8], product[12];
    u32 oem_table;
    u16 oem_table_bytes, entry_count;
    u32 local_apic;
    u16 extended_bytes;
    u8 extended_checksum, reserved;
};

struct __attribute__((packed)) processor_entry {
    u8 type, apic_id, apic_version, flags;
    u32 signature, features;
    u64 reserved;
};
_Static_assert(sizeof(struct floating_pointer) == 16 && sizeof(struct table_header) == 44 &&
                   sizeof(struct processor_entry) == 20,
               "MPS 1.4 figures 4-1, 4-2, 4-4");

#define ENTRY_PROCESSOR 0
#define OTHER_ENTRY_BYTES 8 /* bus, I/O APIC, I/O interrupt, local interrupt */
#define PROCESSOR_ENABLED 1
#define PROCESSOR_IS_BSP 2

static u64 scan(u64 start, u64 end) { return firmware_scan(start, end, "_MP_", 4); }

/* Search order of §4.1: the first KiB of the EBDA, the last KiB of base memory, the BIOS ROM. */
static u64 find_floating_pointer(void) {
    u64 at = 0, ebda = firmware_ebda();
    u64 base_end = (u64) * (const volatile u16 *)BDA_BASE_MEMORY_KIB * 1024;
    if (ebda)
        at = scan(ebda, ebda + 1024);
    if (!at && base_end >= 1024 && base_end <= 0xA0000)
        at = scan(base_end - 1024, base_end);
    if (!at) /* without firmware the BIOS data area is empty: assume 640 KiB of base memory */
        at = scan(0x9FC00, 0xA0000);
    return at ? at : scan(BIOS_ROM_START, BIOS_ROM_END);
}

static void read_table(struct cpu_list *list, u64 address) {
    const struct table_header *header = (const void *)address;
    if (!address || address > FIRMWARE_MAPPED_END - FIRMWARE_TABLE_MAX || !bytes_equal(header->signature, "PCMP", 4)) {
        list->defect = "the MP floating pointer does not point to a configuration table";
        return;
    }
    if (header->length < sizeof(*header) || !firmware_checksum_ok(header, header->length)) {
        list->defect = "the MP configuration table has a wrong checksum";
        return;
    }
    const u8 *at = (const u8 *)(header + 1), *end = (const u8 *)header + header->length;
    for (u32 left = header->entry_count; left; left--) {
        const struct processor_entry *entry = (const void *)at;
        if (at + OTHER_ENTRY_BYTES > end || (entry->type == ENTRY_PROCESSOR && at + sizeof(*entry) > end)) {
            list->defect = "MP entries extend past the end of the table";
            return;
        }
        if (entry->type != ENTRY_PROCESSOR)
            break; /* §4.3: entries are sorted by type, processors first */
        if (entry->flags & PROCESSOR_ENABLED) {
            cpu_list_add(list, entry->apic_id);
            if (entry->flags & PROCESSOR_IS_BSP)
                list->marked_bsp = entry->apic_id;
        }
        at += sizeof(*entry);
    }
    /* SeaBIOS on QEMU's microvm writes a table without processor entries;
     * such a table counts as absent. */
    list->present = list->count > 0;
}

void mptable_list_cpus(struct cpu_list *list) {
    list->marked_bsp = -1;
    const struct floating_pointer *pointer = (const void *)find_floating_pointer();
    if (!pointer)
        return;
    if (pointer->length != 1 || !firmware_checksum_ok(pointer, sizeof(*pointer))) {
        list->defect = "the MP floating pointer has a wrong checksum";
    } else if (pointer->default_configuration) {
        /* §5: all default configurations have two CPUs, with APIC IDs 0 and 1. */
        list->present = true;
        cpu_list_add(list, 0);
        cpu_list_add(list, 1);
    } else {
        read_table(list, pointer->table);
    }
}

/*
 * acpi.c: RSDP -> XSDT or RSDT -> MADT. ACPI 6.5 §5.2.5 (RSDP), §5.2.6 (table
 * header), §5.2.7-8 (RSDT, XSDT), §5.2.12 (MADT; .2 local APIC, .12 x2APIC).
 *
 * Every length is checked against the enclosing structure before it is used.
 */
#include "boot_info.h"
#include "firmware.h"
#include "string.h"

#define RSDP_SCAN_START 0xE0000
#define RSDP_SCAN_END 0x100000
#define RSDP_V1_BYTES 20

struct __attribute__((packed)) rsdp {
    char signature[8];
    u8 checksum, oem[6], revision;
    u32 rsdt;
    u32 length; /* this and the following fields need revision >= 2 */
    u64 xsdt;
    u8 extended_checksum, reserved[3];
};

struct __attribute__((packed)) table_header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem[6], oem_table[8];
    u32 oem_revision, creator, creator_revision;
};

#define MADT_ENTRIES_OFFSET (sizeof(struct table_header) + 8)
enum madt_entry_type { MADT_LOCAL_APIC = 0, MADT_LOCAL_X2APIC = 9 };
#define MADT_ENABLED 1u

struct __attribute__((packed)) madt_entry {
    u8 type, length;
    union {
        struct __attribute__((packed)) {
            u8 processor, apic_id;
            u32 flags;
        } local_apic; /* 8 bytes with the header */
        struct __attribute__((packed)) {
            u16 reserved;
            u32 apic_id, flags, processor;
        } local_x2apic; /* 16 bytes */
    };
};
_Static_assert(sizeof(struct rsdp) == 36 && sizeof(struct table_header) == 36 && sizeof(struct madt_entry) == 16,
               "ACPI 6.5 tables 5.3, 5.4, 5.21");

static const struct rsdp *find_rsdp(void) {
    u64 at = boot_info.rsdp;
    if (!at && firmware_ebda())
        at = firmware_scan(firmware_ebda(), firmware_ebda() + 1024, "RSD PTR ", 8);
    if (!at)
        at = firmware_scan(RSDP_SCAN_START, RSDP_SCAN_END, "RSD PTR ", 8);
    if (!at || at + sizeof(struct rsdp) > FIRMWARE_MAPPED_END)
        return NULL;
    const struct rsdp *rsdp = (const void *)at;
    if (!bytes_equal(rsdp->signature, "RSD PTR ", 8) || !firmware_checksum_ok(rsdp, RSDP_V1_BYTES))
        return NULL;
    /* The extended checksum of revision 2 covers the whole structure. */
    if (rsdp->revision >= 2 && (rsdp->length != sizeof(*rsdp) || !firmware_checksum_ok(rsdp, sizeof(*rsdp))))
        return NULL;
    return rsdp;
}

/* The table at `address` if it is in mapped memory and has this signature; otherwise NULL. */
static const struct table_header *table_at(u64 address, const char *signature) {
    if (!address || address > FIRMWARE_MAPPED_END - FIRMWARE_TABLE_MAX)
        return NULL;
    const struct table_header *table = (const void *)address;
    bool plausible = table->length >= sizeof(*table) && table->length <= FIRMWARE_TABLE_MAX;
    return plausible && bytes_equal(table->signature, signature, 4) ? table : NULL;
}

static const struct table_header *find_madt(const struct rsdp *rsdp) {
    bool wide = rsdp->revision >= 2 && rsdp->xsdt;
    const struct table_header *root = wide ? table_at(rsdp->xsdt, "XSDT") : table_at(rsdp->rsdt, "RSDT");
    if (!root)
        return NULL;
    u32 entry_bytes = wide ? 8 : 4;
    const u8 *entry = (const u8 *)root + sizeof(*root), *end = (const u8 *)root + root->length;
    for (; entry + entry_bytes <= end; entry += entry_bytes) {
        u64 address = 0;
        memcpy(&address, entry, entry_bytes);
        const struct table_header *table = table_at(address, "APIC");
        if (table)
            return table;
    }
    return NULL;
}

void acpi_list_cpus(struct cpu_list *list) {
    list->marked_bsp = -1;
    const struct rsdp *rsdp = find_rsdp();
    if (!rsdp)
        return;
    const struct table_header *madt = find_madt(rsdp);
    if (!madt) {
        list->defect = "the RSDT or XSDT lists no MADT";
        return;
    }
    if (!firmware_checksum_ok(madt, madt->length)) {
        list->defect = "the MADT has a wrong checksum";
        return;
    }
    list->present = true;
    const u8 *at = (const u8 *)madt + MADT_ENTRIES_OFFSET, *end = (const u8 *)madt + madt->length;
    while (at + 2 <= end) {
        const struct madt_entry *entry = (const void *)at;
        if (entry->length < 2 || at + entry->length > end) {
            list->defect = "an MADT entry extends past the end of the table";
            return;
        }
        if (entry->type == MADT_LOCAL_APIC && entry->length >= 8 && entry->local_apic.flags & MADT_ENABLED)
            cpu_list_add(list, entry->local_apic.apic_id);
        if (entry->type == MADT_LOCAL_X2APIC && entry->length >= 16 && entry->local_x2apic.flags & MADT_ENABLED)
            cpu_list_add(list, entry->local_x2apic.apic_id);
        at += entry->length;
    }
}

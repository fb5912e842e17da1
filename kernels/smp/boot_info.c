/*
 * boot_info.c: PVH start_info (Xen public/arch-x86/hvm/start_info.h) and the
 * Multiboot 1 information structure (spec 0.6.96 §3.3).
 */
#include "boot_info.h"

#define PVH_MAGIC 0x336EC578
#define PVH_MEMORY_RAM 1

struct pvh_start_info {
    u32 magic, version, flags, module_count;
    u64 modules, command_line, rsdp;
    /* since version 1 */
    u64 memory_map;
    u32 memory_map_entries, reserved;
};
struct pvh_memory_entry {
    u64 start, bytes;
    u32 type, reserved;
};
_Static_assert(sizeof(struct pvh_start_info) == 56 && sizeof(struct pvh_memory_entry) == 24, "start_info.h");

#define MULTIBOOT_MAGIC 0x2BADB002
#define MULTIBOOT_HAS_COMMAND_LINE (1u << 2)
#define MULTIBOOT_HAS_MEMORY_MAP (1u << 6)
#define MULTIBOOT_MEMORY_RAM 1

struct multiboot_info {
    u32 flags, memory_lower, memory_upper, boot_device, command_line;
    u32 module_count, modules, symbols[4];
    u32 memory_map_bytes, memory_map;
};
struct __attribute__((packed)) multiboot_memory_entry {
    u32 size; /* of the fields below */
    u64 start, bytes;
    u32 type;
};

/* Used without a memory map: 32 MiB are enough for 254 CPUs. */
#define ASSUMED_RAM_END 0x2000000
#define MAPPED_END 0x100000000ull

struct boot_info boot_info;

static void copy_command_line(u64 address) {
    if (address == 0 || address >= MAPPED_END - COMMAND_LINE_BYTES)
        return;
    const char *from = (const char *)address;
    for (u32 i = 0; i < COMMAND_LINE_BYTES - 1 && from[i]; i++)
        boot_info.command_line[i] = from[i];
}

static void add_ram(u64 start, u64 bytes) {
    if (boot_info.ram_count == MAX_MEMORY_RANGES || start + bytes < start)
        return;
    boot_info.ram[boot_info.ram_count++] = (struct memory_range){start, start + bytes};
    boot_info.ram_bytes += bytes;
}

static void read_pvh(const struct pvh_start_info *info) {
    boot_info.protocol = "pvh";
    boot_info.rsdp = info->rsdp;
    copy_command_line(info->command_line);
    if (info->version < 1 || info->memory_map >= MAPPED_END)
        return;
    const struct pvh_memory_entry *entry = (const void *)info->memory_map;
    for (u32 i = 0; i < info->memory_map_entries && i < MAX_MEMORY_RANGES; i++)
        if (entry[i].type == PVH_MEMORY_RAM)
            add_ram(entry[i].start, entry[i].bytes);
}

static void read_multiboot(const struct multiboot_info *info) {
    boot_info.protocol = "multiboot";
    if (info->flags & MULTIBOOT_HAS_COMMAND_LINE)
        copy_command_line(info->command_line);
    if (!(info->flags & MULTIBOOT_HAS_MEMORY_MAP))
        return;
    u64 at = info->memory_map, end = at + info->memory_map_bytes;
    while (at + sizeof(struct multiboot_memory_entry) <= end) {
        const struct multiboot_memory_entry *entry = (const void *)at;
        if (entry->type == MULTIBOOT_MEMORY_RAM)
            add_ram(entry->start, entry->bytes);
        at += entry->size + sizeof(entry->size);
    }
}

void boot_info_read(u32 magic, u32 pointer) {
    const void *info = (const void *)(u64)pointer;
    boot_info.protocol = "unknown";
    /* PVH first: it leaves EAX undefined, and QEMU's PVH option ROM leaves the
     * Multiboot magic number there. */
    if (info && *(const u32 *)info == PVH_MAGIC)
        read_pvh(info);
    else if (magic == MULTIBOOT_MAGIC)
        read_multiboot(info);
    if (boot_info.ram_count == 0)
        add_ram(0, ASSUMED_RAM_END);
}

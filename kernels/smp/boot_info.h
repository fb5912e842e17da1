/* boot_info.h: boot parameters, copied out of the loader's memory. */
#pragma once
#include "x86.h"

#define COMMAND_LINE_BYTES 512
#define MAX_MEMORY_RANGES 64

struct memory_range {
    u64 start, end; /* usable RAM only */
};

struct boot_info {
    const char *protocol;
    char command_line[COMMAND_LINE_BYTES];
    struct memory_range ram[MAX_MEMORY_RANGES];
    u32 ram_count;
    u64 ram_bytes;
    u64 rsdp; /* 0: not given */
};

extern struct boot_info boot_info;

/* `magic` and `pointer` are EAX and EBX at entry (boot.S). */
void boot_info_read(u32 magic, u32 pointer);

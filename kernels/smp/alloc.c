/*
 * alloc.c: a bump allocator over the usable RAM between the kernel and 4 GiB,
 * which is mapped. Nothing is freed: per-CPU blocks and tables are needed until
 * the machine ends.
 */
#include "alloc.h"
#include "boot_info.h"
#include "lock.h"
#include "string.h"

#define MAPPED_END 0x100000000ull
#define ALIGNMENT 64

extern const u8 kernel_end[];

static struct lock lock;
static u64 next, end; /* of the current range */
static u32 next_range;

/* Goes to the next range with free memory; false if there is none. */
static bool open_range(void) {
    while (next_range < boot_info.ram_count) {
        struct memory_range range = boot_info.ram[next_range++];
        if (range.start < (u64)kernel_end)
            range.start = (u64)kernel_end;
        if (range.end > MAPPED_END)
            range.end = MAPPED_END;
        next = (range.start + ALIGNMENT - 1) & ~(u64)(ALIGNMENT - 1);
        end = range.end;
        if (next < end)
            return true;
    }
    next = end = 0;
    return false;
}

void alloc_init(void) { open_range(); }

void *alloc_partly_zeroed(size_t bytes, size_t zeroed) {
    bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    lock_acquire(&lock);
    while (end - next < bytes && open_range())
        ;
    void *block = NULL;
    if (end - next >= bytes && next) {
        block = (void *)next;
        next += bytes;
    }
    lock_release(&lock);
    return block ? memset(block, 0, zeroed) : NULL;
}

void *alloc_zeroed(size_t bytes) { return alloc_partly_zeroed(bytes, bytes); }

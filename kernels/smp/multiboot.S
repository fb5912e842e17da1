/*
 * multiboot.S: the Multiboot 1 header (spec 0.6.96 §3.1). Only smp-multiboot.elf
 * has it, because QEMU prefers it to the PVH note if an image has both. Bit 16:
 * load by the addresses in the header, which also loaders without ELF64 support do.
 */
#define MAGIC 0x1BADB002
#define WANT_MEMORY_MAP (1 << 1)
#define HAS_ADDRESSES (1 << 16)
        .section .multiboot, "a"
        .align 4
header: .long   MAGIC
        .long   WANT_MEMORY_MAP | HAS_ADDRESSES
        .long   -(MAGIC + (WANT_MEMORY_MAP | HAS_ADDRESSES))
        .long   header
        .long   kernel_start
        .long   kernel_data_end
        .long   kernel_end
        .long   start

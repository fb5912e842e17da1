/*
 * multiboot.S: the Multiboot 1 header (spec 0.6.96 §3.1), linked only into
 * smp-multiboot.elf. It is kept out of smp.elf because QEMU prefers it to the
 * PVH note when it sees both. Bit 16 says "load by the addresses below", the
 * only way that loaders which know no ELF64 will take an ELF64 image.
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

/*
 * boot.S: the entry point of the BSP; switches to 64-bit mode and calls main().
 *
 * Two boot protocols enter here in the same machine state (32-bit protected mode,
 * flat segments, paging and interrupts off, a physical pointer in EBX):
 *   PVH: EBX -> struct hvm_start_info. Found through the ELF note
 *     XEN_ELFNOTE_PHYS32_ENTRY (Xen docs/misc/pvh.pandoc, public/elfnote.h).
 *   Multiboot 1: EAX = 0x2BADB002, EBX -> multiboot_info (spec 0.6.96 §3.2).
 *     Its header is in multiboot.S, which only smp-multiboot.elf has.
 */
#include "x86.h"
#include "cpu.h"

        .section .note.Xen, "a", @note
        .align 4
        .long 2f - 1f                   /* name size */
        .long 4f - 3f                   /* descriptor size */
        .long 18                        /* XEN_ELFNOTE_PHYS32_ENTRY */
1:      .asciz "Xen"
2:      .align 4
3:      .long start
4:
        .text
        .code32
        .globl start
start:  cli
        cld
        movl    $bsp_block + CPU_BLOCK_BYTES, %esp
        /* Arguments of main(magic, pointer, entry_tsc). */
        movl    %eax, %edi
        movl    %ebx, %esi
        rdtsc
        movl    %eax, %ebp
        movl    %edx, %ebx

        /* Enter long mode, in the order of SDM Vol 3A §10.8.5. */
        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr
        /* A plain assignment also clears CD and NW, which are set after reset. */
        movl    $(CR0_PG | CR0_WP | CR0_NE | CR0_PE), %eax
        movl    %eax, %cr0
        lgdt    boot_gdt_pointer
        ljmp    $SEL_CODE64, $1f

        .code64
1:      xorl    %eax, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %edi, %edi              /* zero-extend the 32-bit values */
        movl    %esi, %esi
        shlq    $32, %rbx
        movl    %ebp, %edx
        orq     %rbx, %rdx
        xorl    %ebp, %ebp
        call    main
1:      cli
        hlt
        jmp     1b

        .section .rodata
        .align 8
boot_gdt:
        .quad   0
        .quad   0x00AF9B000000FFFF      /* SEL_CODE64, the only one used here */
boot_gdt_pointer:
        .word   . - boot_gdt - 1
        .long   boot_gdt

/*
 * Identity mapping of the first 4 GiB in 2 MiB pages. It is part of the image:
 * 2048 stores at run time take 7 ms where ring 0 is emulated, while a loader copies
 * 16 KiB in no time. Not every virtual CPU has 1 GiB pages.
 *
 * All pages have the user bit: ring 3 is used for speed, not for protection
 * (ring3.h). The last GiB, which contains the APICs, is uncached (PCD and PWT).
 */
#define PRESENT_WRITE_USER 0x07
#define LARGE 0x80
#define UNCACHED 0x18
        .section .data.pagetables, "aw"
        .align 4096
        .globl pml4
pml4:   .quad   pdpt + PRESENT_WRITE_USER
        .fill   511, 8, 0
pdpt:   .quad   page_directories + 0x0000 + PRESENT_WRITE_USER
        .quad   page_directories + 0x1000 + PRESENT_WRITE_USER
        .quad   page_directories + 0x2000 + PRESENT_WRITE_USER
        .quad   page_directories + 0x3000 + PRESENT_WRITE_USER
        .fill   508, 8, 0
page_directories:
        .set    address, 0
        .rept   3 * 512
        .quad   address + LARGE + PRESENT_WRITE_USER
        .set    address, address + 0x200000
        .endr
        .rept   512
        .quad   address + UNCACHED + LARGE + PRESENT_WRITE_USER
        .set    address, address + 0x200000
        .endr

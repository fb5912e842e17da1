/*
 * boot.S: from the loader's 32-bit entry to main() in 64-bit mode on the BSP.
 *
 * Two protocols enter here with the same machine state (32-bit protected mode,
 * flat segments, paging off, interrupts off, EBX = a physical pointer):
 *   PVH: EBX -> struct hvm_start_info. Found through the ELF note
 *     XEN_ELFNOTE_PHYS32_ENTRY (Xen docs/misc/pvh.pandoc, public/elfnote.h).
 *   Multiboot 1: EAX = 0x2BADB002, EBX -> multiboot_info (spec 0.6.96 §3.2).
 *     Its header is in multiboot.S and only linked into smp-multiboot.elf.
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
        /* main(magic, pointer, entry_tsc); it tells the protocols apart. */
        movl    %eax, %edi
        movl    %ebx, %esi
        rdtsc
        movl    %eax, %ebp
        movl    %edx, %ebx

        /* Long mode, in the order SDM Vol 3A §10.8.5 asks for. */
        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr
        /* Plain assignment clears CD and NW, which a reset leaves set. */
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
        movl    %edi, %edi              /* zero-extend what came from 32 bits */
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
 * Identity map of the first 4 GiB in 2 MiB pages. It is assembled, not built
 * at run time: 2048 stores cost nothing on most machines but 7 ms where ring
 * 0 is emulated, and 16 KiB in the file cost a loader next to nothing. 1 GiB
 * pages would be smaller, but not every virtual CPU has them.
 *
 * User bit everywhere: ring 3 is used here for speed, not for protection
 * (ring3.h). The last GiB, where APICs live, is uncached (PCD and PWT).
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

/*
 * trampoline.S: code of an AP from its startup IPI to ap_entry(): 16-bit, 32-bit and
 * 64-bit mode.
 *
 * The address of the copy that runs is known only at run time. So the code is
 * assembled for address 0, and trampoline_relocations lists every absolute
 * reference; the BSP adds the address of the copy to each.
 *
 * An AP identifies itself by the ID register of its APIC, not by CPUID, which is
 * under test, nor by the order of arrival. XCHG takes the block for that ID out of
 * its slot. An unexpected CPU, or a second one with the same ID, gets NULL and
 * parks without using any stack.
 */
#include "x86.h"
#include "cpu.h"
#include "trampoline.h"

#define APIC_BASE_ENABLE_X2 0xC00
#define APIC_BASE_ADDRESS_MASK 0xFFFFF000
#define XAPIC_ID_OFFSET 0x20
#define X2APIC_ID_MSR (MSR_X2APIC + 2)

        .section .rodata.relocations, "a"
        .balign 2
trampoline_relocations:                 /* filled by `relocate`, ended below */

        .section .rodata
        .globl trampoline_start, trampoline_parameters, trampoline_end
        .globl trampoline_relocations, trampoline_relocations_end

/* Adds a relocation for the 32-bit field that ends `back` bytes before this point. */
        .macro relocate back=0
        .pushsection .rodata.relocations, "a"
        .word   999f - trampoline_start - 4 - \back
        .popsection
999:
        .endm
#define AT(label) (label - trampoline_start)

        .balign 16
trampoline_start:
        .code16
        cli
        cld
        movw    %cs, %ax                /* CS base is the page that the startup IPI named */
        movw    %ax, %ds
        lgdtl   AT(gdt_pointer)
        movl    %cr0, %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   $0x18, $AT(protected)
        relocate 2

        .code32
protected:
        movw    $SEL_DATA, %ax
        movw    %ax, %ds
        movl    $AT(trampoline_parameters), %ebx
        relocate
        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    PARAM_CR3(%ebx), %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr
        movl    $(CR0_PG | CR0_WP | CR0_NE | CR0_PE), %eax
        movl    %eax, %cr0
        ljmp    $SEL_CODE64, $AT(long_mode)
        relocate 2

        .code64
long_mode:
        movl    $MSR_APIC_BASE, %ecx
        rdmsr
        cmpl    $0, PARAM_X2APIC(%rbx)
        je      1f
        orl     $APIC_BASE_ENABLE_X2, %eax
        wrmsr
        movl    $X2APIC_ID_MSR, %ecx
        rdmsr
        jmp     2f
1:      andl    $APIC_BASE_ADDRESS_MASK, %eax
        movl    XAPIC_ID_OFFSET(%rax), %eax
        shrl    $24, %eax
2:      cmpl    PARAM_MAX_APIC_ID(%rbx), %eax
        ja      park
        movq    PARAM_SLOTS(%rbx), %rcx
        xorl    %edi, %edi
        xchgq   %rdi, (%rcx, %rax, 8)
        testq   %rdi, %rdi
        jz      park
        leaq    CPU_BLOCK_BYTES(%rdi), %rsp
        xorl    %ebp, %ebp
        callq   *PARAM_ENTRY(%rbx)
park:   cli
        hlt
        jmp     park

        .balign 8
gdt:    .quad   0
        .quad   0x00AF9B000000FFFF      /* SEL_CODE64 */
        .quad   0x00CF93000000FFFF      /* SEL_DATA */
        .quad   0x00CF9B000000FFFF      /* 0x18: 32-bit code, base 0 */
gdt_pointer:
        .word   . - gdt - 1
        .long   AT(gdt)
        relocate
        .balign 8
trampoline_parameters:
        .skip   32
trampoline_end:

        .section .rodata.relocations, "a"
trampoline_relocations_end:

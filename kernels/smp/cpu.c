/* cpu.c: per-CPU blocks and descriptor tables (SDM Vol 3A ch. 3 and §8.7). */
#include "cpu.h"

struct cpu_block bsp_block __attribute__((aligned(64), section(".bss.bsp")));
struct cpu *cpus[MAX_CPUS];
u32 cpu_count;

/* Flat 64-bit descriptors. The accessed bit is set, so that loading does not write to the GDT. */
#define DESCRIPTOR_CODE64 0x00AF9B000000FFFF
#define DESCRIPTOR_DATA 0x00CF93000000FFFF
#define DESCRIPTOR_USER_DATA 0x00CFF3000000FFFF
#define DESCRIPTOR_USER_CODE64 0x00AFFB000000FFFF

void cpu_prepare(struct cpu_block *block, u32 index, u32 apic_id) {
    struct cpu *cpu = &block->cpu;
    cpu->self = cpu;
    cpu->index = index;
    cpu->apic_id = apic_id;
    cpu->ring3_stack_top = (u64)(block->ring3_stack + sizeof(block->ring3_stack));
    cpu->tss.ist[IST_DOUBLE_FAULT - 1] = (u64)(block->double_fault_stack + sizeof(block->double_fault_stack));
    cpu->tss.ist[IST_NMI - 1] = (u64)(block->nmi_stack + sizeof(block->nmi_stack));
    cpu->tss.io_map_base = sizeof(struct tss); /* no I/O bitmap */

    u64 base = (u64)&cpu->tss, limit = sizeof(struct tss) - 1;
    cpu->gdt[SEL_CODE64 / 8] = DESCRIPTOR_CODE64;
    cpu->gdt[SEL_DATA / 8] = DESCRIPTOR_DATA;
    cpu->gdt[SEL_USER_DATA / 8] = DESCRIPTOR_USER_DATA;
    cpu->gdt[SEL_USER_CODE64 / 8] = DESCRIPTOR_USER_CODE64;
    /* Available 64-bit TSS (type 9), present: SDM Vol 3A figure 8-4. */
    cpu->gdt[SEL_TSS / 8] = limit | (base & 0xFFFFFF) << 16 | 0x89ull << 40 | (base >> 24 & 0xFF) << 56;
    cpu->gdt[SEL_TSS / 8 + 1] = base >> 32;

    cpus[index] = cpu;
}

void cpu_load(struct cpu *cpu) {
    struct table_pointer gdt = {sizeof(cpu->gdt) - 1, (u64)cpu->gdt};
    asm volatile("lgdt %0" ::"m"(gdt));
    /* CS stays: its selector has the same descriptor in the new table. The
     * others are null, which 64-bit mode allows and IRETQ to ring 3 keeps. */
    asm volatile("mov %0, %%ss; mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs" ::"r"(0) : "memory");
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
    wrmsr(MSR_GS_BASE, (u64)cpu);
}

/*
 * cpu.h: one block of memory per CPU: its variables, its descriptor tables and
 * its stacks. GS base points at it on every CPU, in ring 0 and in ring 3.
 *
 * The rule of this kernel about interrupts: ring 0 runs with them off. They are
 * taken in two places only, while a CPU halts (halt_once) and while it runs in
 * ring 3. So no lock needs an irqsave variant, and handlers never nest. It is
 * also the fast way: a KVM that emulates ring 0 looks for interrupts after
 * every 0.7 ms of emulated code, but at once when the guest halts.
 */
#pragma once
#include "x86.h"

#define CPU_BLOCK_BYTES 16384
#define CPU_RING3_STACK_TOP 8 /* offsets in struct cpu, for assembly */
#define CPU_TSS_RSP0 20

#ifndef __ASSEMBLER__
#include "run_queue.h"
#include "topology.h"

#define MAX_CPUS 1024
#define MAX_APIC_ID 4096 /* ids must be below this; 12 bits of x2APIC id */
#define BSP 0

/* SDM Vol 3A §8.7: the 64-bit TSS. RSP0 is misaligned by design. */
struct __attribute__((packed)) tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, io_map_base;
};

enum { IST_NONE, IST_DOUBLE_FAULT, IST_NMI };

/* How far a CPU has come. Written by itself except CPU_SIPI_SENT. */
enum cpu_state { CPU_OFF, CPU_SIPI_SENT, CPU_ONLINE, CPU_HALTED_BY_PANIC };

enum fpu_bits { FPU_X87 = 1, FPU_SSE = 2, FPU_AVX = 4, FPU_XSAVE = 8 };

struct cpu {
    struct cpu *self;     /* %gs:0 */
    u64 ring3_stack_top;  /* %gs:8 */
    struct tss tss;       /* %gs:16 */
    u64 gdt[7];

    u32 index, apic_id;
    enum cpu_state state;

    /* Cross-CPU calls waiting for this CPU (ipi.c), newest first. */
    struct call *calls;
    bool pong;            /* a ping of this CPU was answered */

    struct run_queue queue;
    u32 tasks_stolen;

    /* Ring 3 (ring3.h): whether a fault there is expected, and whether one came. */
    bool ring3_fault_expected, ring3_faulted;

    /* What this CPU found out about itself. */
    u32 ring0_cycles_per_loop, ring3_cycles_per_loop; /* fpu.c */
    bool ring0_emulated;
    u32 fpu_detected, fpu_enabled; /* enum fpu_bits */
    u64 xcr0;                      /* as ring 3 reads it; 0 if it cannot */
    struct cpu_topology topology;

    u64 panic_rip;        /* where the panic of another CPU stopped this one */
};

/* Stacks grow down towards what precedes them; the kernel stack, which is the
 * only deep one, is last and has 8 KiB above the others. */
struct cpu_block {
    struct cpu cpu;
    u8 ring3_stack[1024] __attribute__((aligned(16)));
    u8 double_fault_stack[2048];
    u8 nmi_stack[2048];
    u8 stack[] __attribute__((aligned(16)));
};

_Static_assert(offsetof(struct cpu, ring3_stack_top) == CPU_RING3_STACK_TOP, "ring3.S");
_Static_assert(offsetof(struct cpu, tss.rsp) == CPU_TSS_RSP0, "ring3.S");
_Static_assert(sizeof(struct tss) == 104, "SDM Vol 3A figure 8-11");
_Static_assert(sizeof(struct cpu_block) + 8192 <= CPU_BLOCK_BYTES, "room for an 8 KiB kernel stack");

extern struct cpu_block bsp_block;
extern struct cpu *cpus[MAX_CPUS]; /* by CPU index; the BSP is 0 */
extern u32 cpu_count;              /* CPUs found and prepared */

/* A CPU's block never moves and no code moves between CPUs, so the compiler
 * may keep the answer: no volatile, no memory clobber. */
static inline struct cpu *this_cpu(void) {
    struct cpu *cpu;
    asm("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Sleep until an interrupt has been handled. STI takes effect after the next
 * instruction, so one that arrives before HLT still ends it (SDM Vol 2, STI). */
static inline void halt_once(void) { asm volatile("sti; hlt; cli" ::: "memory"); }

/* Whoever makes `condition` true must also interrupt this CPU (ipi_wake). */
#define WAIT_UNTIL(condition) \
    do {                      \
        while (!(condition))  \
            halt_once();      \
    } while (0)

/* Fills in a zeroed block: links, stacks, GDT and TSS. Runs on any CPU. */
void cpu_prepare(struct cpu_block *block, u32 index, u32 apic_id);

/* Loads this CPU's GDT, TSS and GS base. Runs on that CPU. */
void cpu_load(struct cpu *cpu);
#endif

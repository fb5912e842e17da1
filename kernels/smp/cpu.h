/*
 * cpu.h: the per-CPU block: variables, descriptor tables and stacks. The GS base
 * points to it, in ring 0 and in ring 3.
 *
 * Ring 0 runs with interrupts disabled. A CPU takes interrupts only while it is
 * halted (halt_once) and in ring 3. So locks need no irqsave variant, and
 * handlers do not nest. It is also faster: a KVM that emulates ring 0 checks for
 * interrupts every 0.7 ms of emulated code, but immediately on HLT.
 */
#pragma once
#include "x86.h"

#define CPU_BLOCK_BYTES 16384
#define CPU_RING3_STACK_TOP 8 /* offsets in struct cpu, for assembly code */
#define CPU_TSS_RSP0 20

#ifndef __ASSEMBLER__
#include "run_queue.h"
#include "topology.h"

#define MAX_CPUS 1024
#define MAX_APIC_ID 4096 /* exclusive; 12 bits of the x2APIC ID */
#define BSP 0

/* The 64-bit TSS (SDM Vol 3A §8.7). Its RSP0 is not 8-byte aligned. */
struct __attribute__((packed)) tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, io_map_base;
};

enum { IST_NONE, IST_DOUBLE_FAULT, IST_NMI };

/* Written by the CPU itself, except for CPU_SIPI_SENT. */
enum cpu_state { CPU_OFF, CPU_SIPI_SENT, CPU_ONLINE, CPU_HALTED_BY_PANIC };

enum fpu_bits { FPU_X87 = 1, FPU_SSE = 2, FPU_AVX = 4, FPU_XSAVE = 8 };

struct cpu {
    struct cpu *self;     /* %gs:0 */
    u64 ring3_stack_top;  /* %gs:8 */
    struct tss tss;       /* %gs:16 */
    u64 gdt[7];

    u32 index, apic_id;
    enum cpu_state state;

    /* Pending cross-CPU calls to this CPU (ipi.c), newest first. */
    struct call *calls;
    bool pong;            /* the answer to this CPU's ping has arrived */

    struct run_queue queue;
    u32 tasks_stolen;

    /* ring3_try(): a fault in ring 3 is expected; a fault has occurred. */
    bool ring3_fault_expected, ring3_faulted;

    /* Results of startup_examine(). */
    u32 ring0_cycles_per_loop, ring3_cycles_per_loop; /* fpu.c */
    bool ring0_emulated;
    u32 fpu_detected, fpu_enabled; /* enum fpu_bits */
    u64 xcr0;                      /* read in ring 3; 0 if XGETBV is not available */
    struct cpu_topology topology;

    u64 panic_rip;        /* where this CPU was when the panic of another one stopped it */
};

/* A stack that overflows runs into the member before it. The kernel stack, the
 * only deep one, is the rest of the block: at least 8 KiB. */
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
extern struct cpu *cpus[MAX_CPUS]; /* by CPU index; the BSP has index 0 */
extern u32 cpu_count;              /* CPUs found, and prepared by cpu_prepare() */

/* Neither volatile nor a memory clobber: a CPU's block does not move, and code
 * does not migrate between CPUs, so the compiler may reuse the result. */
static inline struct cpu *this_cpu(void) {
    struct cpu *cpu;
    asm("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Sleeps until an interrupt has been handled. STI enables interrupts after the
 * next instruction, so none is lost between STI and HLT (SDM Vol 2, STI). */
static inline void halt_once(void) { asm volatile("sti; hlt; cli" ::: "memory"); }

/* The CPU that makes `condition` true must also interrupt this one (ipi_wake). */
#define WAIT_UNTIL(condition) \
    do {                      \
        while (!(condition))  \
            halt_once();      \
    } while (0)

/* Initialises a zeroed block: pointers, stacks, GDT and TSS. On any CPU. */
void cpu_prepare(struct cpu_block *block, u32 index, u32 apic_id);

/* Loads the GDT, TSS and GS base. On the CPU itself. */
void cpu_load(struct cpu *cpu);
#endif

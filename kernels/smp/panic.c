/*
 * panic.c: stops the other CPUs by NMI, which is delivered with interrupts
 * disabled too. It is sent to each online CPU, not broadcast: an AP that has no
 * IDT yet would cause a triple fault before the panic is printed.
 */
#include "panic.h"
#include "apic.h"
#include "cpu.h"
#include "exit.h"
#include "options.h"
#include "patience.h"
#include "print.h"

#define HALT_PATIENCE_US 200000
#define LISTED_CPUS 16 /* RIPs of other CPUs printed */

static u32 panicking; /* 1 + index of the panicking CPU; 0: none */
static u32 halted;

bool panic_is_under_way(void) { return atomic_load(&panicking); }

void panic_stop_here(u64 rip) {
    struct cpu *self = this_cpu();
    self->panic_rip = rip;
    atomic_store(&self->state, CPU_HALTED_BY_PANIC);
    atomic_fetch_add(&halted, 1);
    progress_note();
    halt_forever();
}

/* Returns the number of CPUs that were sent an NMI. If two CPUs panic, the second one halts. */
static u32 stop_others(void) {
    struct cpu *self = this_cpu();
    u32 nobody = 0, others = 0;
    if (!atomic_compare_exchange(&panicking, &nobody, self->index + 1)) {
        if (nobody == self->index + 1)
            machine_exit(EXIT_PANIC); /* a panic during this CPU's own panic */
        panic_stop_here(0);
    }
    for (u32 i = 0; i < cpu_count; i++)
        if (i != self->index && atomic_load(&cpus[i]->state) == CPU_ONLINE) {
            apic_send_nmi(cpus[i]->apic_id);
            others++;
        }
    struct patience patience;
    patience_start(&patience, HALT_PATIENCE_US, PATIENCE_STEP_POLLING_US);
    while (atomic_load(&halted) < others && !patience_is_over(&patience, rdtsc()))
        pause();
    print_break_lock();
    return others;
}

static const char *trap_name(u64 vector) {
    static const char *const names[] = {
        "#DE divide error", "#DB debug", "NMI", "#BP breakpoint", "#OF overflow", "#BR bound range",
        "#UD invalid opcode", "#NM no FPU", "#DF double fault", "vector 9", "#TS invalid TSS",
        "#NP segment not present", "#SS stack fault", "#GP general protection", "#PF page fault",
        "vector 15", "#MF x87 error", "#AC alignment", "#MC machine check", "#XM SIMD error",
    };
    return vector < lengthof(names) ? names[vector] : "unknown exception";
}

static void print_others(u32 others) {
    print("%u of %u other CPUs halted\n", atomic_load(&halted), others);
    for (u32 i = 0, listed = 0; i < cpu_count && listed < LISTED_CPUS; i++)
        if (atomic_load(&cpus[i]->state) == CPU_HALTED_BY_PANIC) {
            print("  CPU %u was at RIP 0x%lx\n", i, cpus[i]->panic_rip);
            listed++;
        }
}

static void print_json(const char *why, const char *where, const struct trap_frame *frame, u32 others) {
    static char bytes[1024]; /* not on the stack: that of a double fault is small */
    struct text text = {bytes, 0, sizeof(bytes)};
    const struct cpu *self = this_cpu();
    text_add(&text, "{\"kernel\":\"volt-smp\",\"schema\":1,\"verdict\":\"fail\",");
    text_add(&text, "\"failures\":[\"panic on CPU %u: %s%s%s\"],", self->index, why, where ? ": " : "",
             where ? where : "");
    text_add(&text, "\"panic\":{\"cpu\":%u,\"apicId\":%u,\"reason\":\"%s\",\"others\":%u,\"othersHalted\":%u",
             self->index, self->apic_id, why, others, atomic_load(&halted));
    if (frame) {
        text_add(&text, ",\"vector\":%lu,\"errorCode\":%lu,\"ring\":%lu", frame->vector, frame->error,
                 frame->cs & RPL_USER);
        text_add(&text, ",\"rip\":\"0x%lx\",\"rsp\":\"0x%lx\",\"cr2\":\"0x%lx\"", frame->rip, frame->rsp, read_cr2());
    }
    text_add(&text, "}}\n");
    print_bytes(bytes, text.length);
}

static void print_registers(const struct trap_frame *f) {
    print("RIP %016lx RSP %016lx RFLAGS %08lx CS %02lx SS %02lx\n", f->rip, f->rsp, f->rflags, f->cs, f->ss);
    print("RAX %016lx RBX %016lx RCX %016lx RDX %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    print("RSI %016lx RDI %016lx RBP %016lx R8  %016lx\n", f->rsi, f->rdi, f->rbp, f->r8);
    print("R9  %016lx R10 %016lx R11 %016lx R12 %016lx\n", f->r9, f->r10, f->r11, f->r12);
    print("R13 %016lx R14 %016lx R15 %016lx\n", f->r13, f->r14, f->r15);
    print("CR0 %08lx CR2 %016lx CR3 %08lx CR4 %08lx\n", read_cr0(), read_cr2(), read_cr3(), read_cr4());
}

void panic_on_trap(const struct trap_frame *frame) {
    u32 others = stop_others();
    const struct cpu *self = this_cpu();
    if (options.json) {
        print_json(trap_name(frame->vector), NULL, frame, others);
        machine_exit(EXIT_PANIC);
    }
    print("PANIC on CPU %u (APIC ID %u): %s, error code 0x%lx, in ring %lu\n", self->index, self->apic_id,
          trap_name(frame->vector), frame->error, frame->cs & RPL_USER);
    print_registers(frame);
    print_others(others);
    machine_exit(EXIT_PANIC);
}

void panic(const char *why, const char *where) {
    u32 others = stop_others();
    const struct cpu *self = this_cpu();
    if (options.json) {
        print_json(why, where, NULL, others);
        machine_exit(EXIT_PANIC);
    }
    print("PANIC on CPU %u (APIC ID %u): %s%s%s\n", self->index, self->apic_id, why, where ? ": " : "",
          where ? where : "");
    print_others(others);
    machine_exit(EXIT_PANIC);
}

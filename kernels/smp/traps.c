/* traps.c: the IDT (SDM Vol 3A §6.10) and the exception handler. */
#include "traps.h"
#include "cpu.h"
#include "panic.h"
#include "ring3.h"

struct gate {
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_middle;
    u32 offset_high, reserved;
};
_Static_assert(sizeof(struct gate) == 16, "SDM Vol 3A figure 6-8");

#define GATE_INTERRUPT 0x8E /* present, DPL 0, 64-bit interrupt gate */
#define EXCEPTION_STUB_BYTES 16

static struct gate idt[256];

extern const u8 exception_stubs[];
void invalid_opcode_stub(void);
void on_tick_stub(void);
void on_wake_stub(void);
void on_call_stub(void);
void on_broadcast_stub(void);
void on_ping_stub(void);
void on_pong_stub(void);
void spurious_stub(void);

static void set_gate(u32 vector, const void *stub, u8 ist) {
    u64 offset = (u64)stub;
    idt[vector] = (struct gate){
        .offset_low = (u16)offset,
        .offset_middle = (u16)(offset >> 16),
        .offset_high = (u32)(offset >> 32),
        .selector = SEL_CODE64,
        .ist = ist,
        .type = GATE_INTERRUPT,
    };
}

void traps_init(void) {
    for (u32 vector = 0; vector < TRAP_COUNT; vector++)
        set_gate(vector, exception_stubs + vector * EXCEPTION_STUB_BYTES, IST_NONE);
    set_gate(TRAP_UD, invalid_opcode_stub, IST_NONE);
    set_gate(TRAP_NMI, exception_stubs + TRAP_NMI * EXCEPTION_STUB_BYTES, IST_NMI);
    set_gate(TRAP_DF, exception_stubs + TRAP_DF * EXCEPTION_STUB_BYTES, IST_DOUBLE_FAULT);

    set_gate(VECTOR_TICK, on_tick_stub, IST_NONE);
    set_gate(VECTOR_WAKE, on_wake_stub, IST_NONE);
    set_gate(VECTOR_CALL, on_call_stub, IST_NONE);
    set_gate(VECTOR_BROADCAST, on_broadcast_stub, IST_NONE);
    set_gate(VECTOR_PING, on_ping_stub, IST_NONE);
    set_gate(VECTOR_PONG, on_pong_stub, IST_NONE);
    set_gate(VECTOR_SPURIOUS, spurious_stub, IST_NONE);
}

void traps_load(void) { load_idt(idt, sizeof(idt) - 1); }

void trap_handle(struct trap_frame *frame) {
    struct cpu *cpu = this_cpu();
    if (frame->vector == TRAP_NMI && panic_is_under_way())
        panic_stop_here(frame->rip);
    bool in_ring3 = (frame->cs & RPL_USER) == RPL_USER;
    if (in_ring3 && cpu->ring3_fault_expected) {
        /* Continue as if the function had returned: at the end of ring3_run, in
         * ring 0, on the stack that has this frame. */
        cpu->ring3_faulted = true;
        frame->rip = (u64)ring3_return;
        frame->cs = SEL_CODE64;
        frame->ss = 0;
        frame->rflags = RFLAGS_FIXED;
        frame->rsp = cpu->tss.rsp[0];
        return;
    }
    panic_on_trap(frame);
}

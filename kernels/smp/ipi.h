/*
 * ipi.h: wake-up interrupts, cross-CPU calls and pings.
 *
 * A called function runs in an interrupt handler of the target CPU: it must be
 * short, must not wait and must not use ring 3. Longer work is for sched.h.
 */
#pragma once
#include "cpu.h"

typedef void call_function(void *argument);

/* Makes a CPU in WAIT_UNTIL check its condition again. */
void ipi_wake(struct cpu *cpu);

/* Runs `function` on one CPU, or on all `others` CPUs, and waits until it has returned there. */
void call_on(struct cpu *cpu, call_function *function, void *argument);
void call_others(call_function *function, void *argument, u32 others);

/* Round trip of two interrupts, in TSC ticks. Only one CPU may ping at a time. */
u64 ipi_ping(struct cpu *target);

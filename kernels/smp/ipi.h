/*
 * ipi.h: what CPUs say to each other: wake up, run this, are you there.
 *
 * Called functions run in the interrupt handler of the CPU called: short, no
 * ring 3, no waiting. Longer work goes through the scheduler (sched.h).
 */
#pragma once
#include "cpu.h"

typedef void call_function(void *argument);

/* A CPU that waits in WAIT_UNTIL looks at its condition again. */
void ipi_wake(struct cpu *cpu);

/* Runs `function` on one CPU, or on every online CPU but this one, and waits. */
void call_on(struct cpu *cpu, call_function *function, void *argument);
void call_others(call_function *function, void *argument, u32 others);

/* One interrupt there, one back, in TSC ticks. One CPU at a time may ping. */
u64 ipi_ping(struct cpu *target);

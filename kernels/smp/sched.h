/*
 * sched.h: a run queue per CPU, and stealing between them.
 *
 * A task is a function that runs to its end, in ring 0 with interrupts off, on
 * the CPU that took it. Its owner takes the newest (warm in its cache), a thief
 * the oldest (of divided work that is the largest piece).
 */
#pragma once
#include "cpu.h"

/* Onto this CPU's queue, for whoever comes first; false if it is full. */
bool sched_push(task_function *run, u64 a, u64 b);

/* For one CPU and no other, which must have no such task already. */
void sched_run_on(struct cpu *cpu, task_function *run, u64 a, u64 b);

/* Runs tasks until *done; sleeps when there are none. NULL: for ever. */
void sched_until(const bool *done);

/* Keep CPUs from stealing (and from being woken to): for runs on one CPU. */
void sched_allow_stealing(bool allow);

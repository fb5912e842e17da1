/*
 * sched.h: a run queue per CPU, with work stealing.
 *
 * A task is a function that runs to completion in ring 0, with interrupts off, on
 * the CPU that takes it. A CPU takes the newest task of its own queue, which is
 * still in its cache, and the oldest of another's, which is the largest piece
 * of divided work.
 */
#pragma once
#include "cpu.h"

/* Adds a task to this CPU's queue, for any CPU to take; false if the queue is full. */
bool sched_push(task_function *run, u64 a, u64 b);

/* Gives `cpu` a task that no other CPU may take. It must not have one already. */
void sched_run_on(struct cpu *cpu, task_function *run, u64 a, u64 b);

/* Runs tasks until *done, and halts while there are none. NULL: for ever. */
void sched_until(const bool *done);

/* false: no CPU steals tasks, or is woken to do so. For runs on one CPU. */
void sched_allow_stealing(bool allow);

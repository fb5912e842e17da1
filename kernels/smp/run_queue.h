/* run_queue.h: the tasks that wait on a CPU (sched.h). */
#pragma once
#include "lock.h"

#define QUEUE_TASKS 32 /* a power of two; halving 2^32 items down to one fits */

typedef void task_function(u64 a, u64 b);

struct task {
    task_function *run;
    u64 a, b;
};

struct run_queue {
    struct lock lock;
    u32 top, bottom; /* oldest and one past the newest, modulo QUEUE_TASKS */
    struct task tasks[QUEUE_TASKS];
    struct task pinned; /* for this CPU only; run is NULL when there is none */
};

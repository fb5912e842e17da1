/* run_queue.h: the queue of tasks of a CPU (sched.h). */
#pragma once
#include "lock.h"

#define QUEUE_TASKS 32 /* a power of two; enough to halve 2^32 items down to one */

typedef void task_function(u64 a, u64 b);

struct task {
    task_function *run;
    u64 a, b;
};

struct run_queue {
    struct lock lock;
    u32 top, bottom; /* oldest task, and one past the newest, modulo QUEUE_TASKS */
    struct task tasks[QUEUE_TASKS];
    struct task pinned; /* for this CPU only; run is NULL if there is none */
};

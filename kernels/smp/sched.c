/*
 * sched.c: a CPU takes a task of its own queue, else steals one, else halts.
 *
 * Few CPUs steal at a time: on a host with fewer CPUs than the guest, many thieves
 * would only take host CPUs from those that work. A new task wakes one halted
 * CPU, the searcher, and no second one until the searcher has looked at all
 * queues. A CPU that takes a task and sees more of them wakes the next searcher.
 * So the number of working CPUs grows as fast as the host can run them.
 */
#include "sched.h"
#include "ipi.h"

/* CPUs whose queues have tasks, their number, and CPUs that are halted. */
static u64 queued[BITMAP_WORDS(MAX_CPUS)];
static u32 queued_count;
static u64 idle[BITMAP_WORDS(MAX_CPUS)];
static u32 searcher; /* 1 + index of the CPU woken to search; 0: none */
static bool stealing = true;

/* The caller of these two holds the lock of the queue. */
static void mark_queued(u32 index) {
    bitmap_set(queued, index);
    atomic_fetch_add(&queued_count, 1);
}

static void mark_empty(u32 index) {
    bitmap_test_and_clear(queued, index);
    atomic_fetch_add(&queued_count, -1u);
}

void sched_allow_stealing(bool allow) { atomic_store(&stealing, allow); }

static bool anything_to_steal(void) { return atomic_load(&queued_count) && atomic_load(&stealing); }

static void wake_searcher(struct cpu *self) {
    if (atomic_load(&searcher) || !anything_to_steal())
        return;
    int index = bitmap_find_from(idle, cpu_count, self->index);
    u32 none = 0;
    if (index < 0 || !atomic_compare_exchange(&searcher, &none, (u32)index + 1))
        return;
    /* If its idle bit is already clear, it is awake and looks for tasks by itself. */
    if (bitmap_test_and_clear(idle, (u32)index))
        ipi_wake(cpus[index]);
    else
        atomic_store(&searcher, 0);
}

bool sched_push(task_function *run, u64 a, u64 b) {
    struct cpu *self = this_cpu();
    struct run_queue *queue = &self->queue;
    lock_acquire(&queue->lock);
    bool room = queue->bottom - queue->top < QUEUE_TASKS;
    if (room) {
        queue->tasks[queue->bottom % QUEUE_TASKS] = (struct task){run, a, b};
        if (queue->bottom++ == queue->top)
            mark_queued(self->index);
    }
    lock_release(&queue->lock);
    wake_searcher(self);
    return room;
}

void sched_run_on(struct cpu *cpu, task_function *run, u64 a, u64 b) {
    cpu->queue.pinned.a = a;
    cpu->queue.pinned.b = b;
    atomic_store(&cpu->queue.pinned.run, run);
    ipi_wake(cpu);
}

/* The caller holds the lock of the queue, which this releases. */
static bool take_locked(struct cpu *victim, bool newest, struct task *task) {
    struct run_queue *queue = &victim->queue;
    bool any = queue->bottom != queue->top;
    if (any) {
        *task = queue->tasks[(newest ? --queue->bottom : queue->top++) % QUEUE_TASKS];
        if (queue->bottom == queue->top)
            mark_empty(victim->index);
    }
    lock_release(&queue->lock);
    return any;
}

static bool take_own(struct cpu *self, struct task *task) {
    struct run_queue *queue = &self->queue;
    /* Only the owner adds tasks, so it may test for an empty queue without the lock. */
    if (queue->bottom == atomic_load(&queue->top))
        return false;
    lock_acquire(&queue->lock);
    return take_locked(self, true, task);
}

/* Tries all queues once, and skips those whose lock is taken. */
static bool steal(struct cpu *self, struct task *task) {
    if (!anything_to_steal())
        return false;
    u32 at = self->index;
    for (u32 looked = 0; looked < cpu_count;) {
        int victim = bitmap_find_from(queued, cpu_count, (at + 1) % cpu_count);
        if (victim < 0)
            return false;
        if (lock_try(&cpus[victim]->queue.lock) && take_locked(cpus[victim], false, task)) {
            self->tasks_stolen++;
            return true;
        }
        looked += ((u32)victim - at + cpu_count - 1) % cpu_count + 1;
        at = (u32)victim;
    }
    return false;
}

static bool take(struct cpu *self, struct task *task) {
    struct task *pinned = &self->queue.pinned;
    if (atomic_load(&pinned->run)) {
        *task = *pinned;
        atomic_store(&pinned->run, NULL);
        return true;
    }
    return take_own(self, task) || steal(self, task);
}

/* Halts until the next interrupt. Returns whether it took a task instead of halting. */
static bool sleep_for_work(struct cpu *self, const bool *done, struct task *task) {
    /* Set the idle bit, then look once more. sched_push() adds the task first and
     * looks at idle bits then. Both use locked operations, so no task is missed. */
    bitmap_set(idle, self->index);
    bool found = take(self, task);
    /* A change of `done` and a pinned task come with an interrupt, which ends HLT. */
    if (!found && !(done && atomic_load(done)) && !atomic_load(&self->queue.pinned.run))
        halt_once();
    bitmap_test_and_clear(idle, self->index);
    return found;
}

/* This CPU has looked at all queues: the next task may wake another searcher. */
static void end_search(struct cpu *self) {
    if (atomic_load(&searcher) == self->index + 1)
        atomic_store(&searcher, 0);
}

void sched_until(const bool *done) {
    struct cpu *self = this_cpu();
    struct task task;
    for (;;) {
        bool found = take(self, &task);
        end_search(self);
        if (!found) {
            if (done && atomic_load(done))
                return;
            if (!sleep_for_work(self, done, &task))
                continue;
            end_search(self);
        }
        wake_searcher(self);
        task.run(task.a, task.b);
    }
}

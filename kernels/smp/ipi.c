/* ipi.c: interprocessor interrupts, and cross-CPU calls based on them. */
#include "ipi.h"
#include "apic.h"
#include "atomic.h"
#include "vectors.h"

struct call {
    struct call *next;
    call_function *function;
    void *argument;
    struct cpu *caller;
    bool done;
};

/* At most one broadcast and one ping are in progress at a time. */
static struct {
    call_function *function;
    void *argument;
    struct cpu *caller;
    u32 pending;
} broadcast;

static struct cpu *pinging;

void ipi_wake(struct cpu *cpu) { apic_send(cpu->apic_id, VECTOR_WAKE); }

void on_wake(void) { apic_end_of_interrupt(); }

void call_on(struct cpu *cpu, call_function *function, void *argument) {
    struct call call = {.function = function, .argument = argument, .caller = this_cpu()};
    struct call *head = atomic_load(&cpu->calls);
    do
        call.next = head;
    while (!atomic_compare_exchange(&cpu->calls, &head, &call));
    /* Only the first call on an empty list sends an interrupt; its handler takes
     * the whole list. */
    if (!call.next)
        apic_send(cpu->apic_id, VECTOR_CALL);
    WAIT_UNTIL(atomic_load(&call.done));
}

void on_call(void) {
    apic_end_of_interrupt();
    struct call *newest = atomic_exchange(&this_cpu()->calls, NULL);
    struct call *oldest = NULL;
    while (newest) { /* reverse the list, to run calls in the order they were made */
        struct call *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        /* `oldest` is on the caller's stack, which may be reused once `done` is set. */
        struct call *next = oldest->next;
        struct cpu *caller = oldest->caller;
        oldest->function(oldest->argument);
        atomic_store(&oldest->done, true);
        ipi_wake(caller);
        oldest = next;
    }
}

void call_others(call_function *function, void *argument, u32 others) {
    if (others == 0)
        return;
    broadcast.function = function;
    broadcast.argument = argument;
    broadcast.caller = this_cpu();
    atomic_store(&broadcast.pending, others);
    apic_send_to_others(VECTOR_BROADCAST);
    WAIT_UNTIL(atomic_load(&broadcast.pending) == 0);
}

void on_broadcast(void) {
    apic_end_of_interrupt();
    struct cpu *caller = broadcast.caller;
    broadcast.function(broadcast.argument);
    if (atomic_fetch_add(&broadcast.pending, -1u) == 1)
        ipi_wake(caller);
}

u64 ipi_ping(struct cpu *target) {
    struct cpu *self = this_cpu();
    atomic_store(&self->pong, false);
    atomic_store(&pinging, self);
    u64 start = rdtsc();
    apic_send(target->apic_id, VECTOR_PING);
    WAIT_UNTIL(atomic_load(&self->pong));
    return rdtsc() - start;
}

void on_ping(void) {
    apic_end_of_interrupt();
    apic_send(atomic_load(&pinging)->apic_id, VECTOR_PONG);
}

void on_pong(void) {
    apic_end_of_interrupt();
    atomic_store(&this_cpu()->pong, true);
}

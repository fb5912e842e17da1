/* startup.h: every CPU up: INIT, 10 ms, SIPI, 200 us, SIPI. */
#pragma once
#include "firmware.h"

struct startup {
    u32 online;        /* CPUs up, the BSP included */
    const struct cpu *missing; /* the first that did not come up, or NULL */
    bool missing_started;      /* it began to run, but never checked in */
    u32 second_sipis;  /* CPUs that got a second startup IPI */
    const char *error; /* why nothing could be started, or NULL */
};

/* Gives every listed CPU but this one a block; false when memory runs out. */
bool startup_prepare(const struct cpu_list *list);

void startup_run(struct startup *result);

/* What each CPU finds out about itself once its APIC is on. */
void startup_examine(struct cpu *cpu);

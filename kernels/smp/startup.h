/* startup.h: starts the APs: INIT, 10 ms, SIPI, 200 us, SIPI. */
#pragma once
#include "firmware.h"

struct startup {
    u32 online;        /* CPUs that are up, the BSP included */
    const struct cpu *missing; /* the first CPU that did not come up, or NULL */
    bool missing_started;      /* it started, but did not check in */
    u32 second_sipis;  /* CPUs that got a second startup IPI */
    const char *error; /* why no AP could be started, or NULL */
};

/* Prepares a block for every listed CPU but this one; false if memory runs out. */
bool startup_prepare(const struct cpu_list *list);

void startup_run(struct startup *result);

/* Speed, FPU and topology of this CPU. Each CPU calls it once its APIC is enabled. */
void startup_examine(struct cpu *cpu);

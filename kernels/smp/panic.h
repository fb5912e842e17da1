/* panic.h: stops every CPU, prints where each one was, ends the machine. */
#pragma once
#include "vectors.h"

_Noreturn void panic_on_trap(const struct trap_frame *frame);

/* `where` names the phase and may be NULL. */
_Noreturn void panic(const char *why, const char *where);

/* For the NMI handler: a panic stops the other CPUs by NMI. */
bool panic_is_under_way(void);
_Noreturn void panic_stop_here(u64 rip);

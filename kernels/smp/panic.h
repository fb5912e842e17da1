/* panic.h: stop every CPU, say who and where, end the machine. */
#pragma once
#include "vectors.h"

_Noreturn void panic_on_trap(const struct trap_frame *frame);

/* `why` and, if not NULL, `where` in the work it happened. */
_Noreturn void panic(const char *why, const char *where);

/* For the NMI by which a panic stops the other CPUs. */
bool panic_is_under_way(void);
_Noreturn void panic_stop_here(u64 rip);

/*
 * ring3.h: run a function at CPL 3 and come back with its result.
 *
 * Why a kernel without user programs does this: on a host whose KVM emulates
 * ring 0 instruction by instruction (kvm-pvm: 0.5 us each, and no SSE at all)
 * ring 3 still runs natively. So whatever is hot, precise or possibly absent
 * runs there: the prime count, the TSC comparison, table scans, and the probes
 * of FPU features, where a missing one is an ordinary fault.
 *
 * The function must not use privileged instructions; interrupts are on while
 * it runs. It runs on a 1 KiB stack. Not to be called from interrupt handlers.
 */
#pragma once
#include "x86.h"

typedef u64 ring3_function(u64 a, u64 b, u64 c);

u64 ring3_run(ring3_function *function, u64 a, u64 b, u64 c);

/* The same, for functions that may fault: false if it did. */
bool ring3_try(ring3_function *function, u64 a, u64 b, u64 c, u64 *result);

/* The instruction whose #UD ends a function in ring 3 (traps.S). */
extern const u8 ring3_end[];
/* Where the trap handler continues then, with the result in RAX. Never returns there. */
void ring3_return(void);

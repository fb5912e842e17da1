/*
 * ring3.h: runs a function at CPL 3 and returns its result.
 *
 * A KVM that emulates ring 0 instruction by instruction (kvm-pvm: 0.5 us each,
 * and no SSE) runs ring 3 natively. So the hot loops and precise measurements of
 * this kernel run in ring 3, as do the tests of FPU features, where an unsupported
 * instruction is an ordinary fault.
 *
 * The function must not use privileged instructions. It runs on a 1 KiB stack
 * with interrupts enabled. Interrupt handlers must not call these functions.
 */
#pragma once
#include "x86.h"

typedef u64 ring3_function(u64 a, u64 b, u64 c);

u64 ring3_run(ring3_function *function, u64 a, u64 b, u64 c);

/* For a function that may fault; false if it did. */
bool ring3_try(ring3_function *function, u64 a, u64 b, u64 c, u64 *result);

/* The instruction at which a function in ring 3 ends, by #UD (traps.S). */
extern const u8 ring3_end[];
/* Where ring 0 continues then, with the result in RAX. Not a C function. */
void ring3_return(void);

/* fpu.h: x87, SSE, AVX and XSAVE: detect, enable where the CPU runs them, try. */
#pragma once
#include "cpu.h"

void fpu_start(struct cpu *cpu);

/* Of struct cpu's ring0_cycles_per_loop or ring3_cycles_per_loop. Picoseconds,
 * because a native instruction takes a fraction of a nanosecond. */
u64 fpu_ps_per_instruction(u32 cycles_per_loop);

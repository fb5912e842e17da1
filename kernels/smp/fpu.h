/* fpu.h: detects x87, SSE, AVX and XSAVE, enables them and tests them. */
#pragma once
#include "cpu.h"

void fpu_start(struct cpu *cpu);

/* From ring0_cycles_per_loop or ring3_cycles_per_loop of struct cpu. In
 * picoseconds, because a native instruction takes less than 1 ns. */
u64 fpu_ps_per_instruction(u32 cycles_per_loop);

/* ring3.c: ring3_try(); ring3.S has the rest. */
#include "ring3.h"
#include "cpu.h"

bool ring3_try(ring3_function *function, u64 a, u64 b, u64 c, u64 *result) {
    struct cpu *cpu = this_cpu();
    cpu->ring3_faulted = false;
    cpu->ring3_fault_expected = true;
    *result = ring3_run(function, a, b, c);
    cpu->ring3_fault_expected = false;
    return !cpu->ring3_faulted;
}

/* exit.h: ends the machine with an exit code. */
#pragma once
#include "x86.h"

#define EXIT_PASS 0
#define EXIT_FAIL 1
#define EXIT_PANIC 2

_Noreturn void machine_exit(u32 code);

/* clock.h: the frequency of the TSC, conversions, and delays. */
#pragma once
#include "x86.h"

void clock_init(void);
u64 clock_khz(void);
const char *clock_source(void); /* where the frequency comes from */

u64 clock_ticks_us(u64 microseconds);
u64 clock_ns(u64 ticks);
u64 clock_us(u64 ticks);
void clock_spin_us(u64 microseconds);

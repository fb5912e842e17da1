/*
 * steal.h: steal time of the BSP: time during which it was ready to run, but the
 * host ran something else. It tells a busy host from a broken machine.
 */
#pragma once
#include "x86.h"

void steal_start(void);
bool steal_is_known(void);
u64 steal_us(void); /* since steal_start(); 0 where the host does not count it */

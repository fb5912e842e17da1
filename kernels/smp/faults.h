/* faults.h: the options fault=... and loop, which take effect once every CPU is up. */
#pragma once

/* Raises the fault on the last AP, or on the BSP if there is no AP. */
_Noreturn void fault_triple(void);
_Noreturn void fault_exception(void);

/* Keeps every CPU busy for ever and prints a heartbeat line each second. */
_Noreturn void loop_for_ever(void);

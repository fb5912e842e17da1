/* faults.h: what the words fault=... and loop do once every CPU is up. */
#pragma once

/* The last AP, or the BSP if there is none, dies as asked. Does not return. */
_Noreturn void fault_triple(void);
_Noreturn void fault_exception(void);

/* Every CPU busy for ever, a heartbeat line each second. */
_Noreturn void loop_for_ever(void);

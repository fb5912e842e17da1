/*
 * watchdog.h: the BSP's periodic tick. It ends the machine with a panic when a
 * phase makes no progress, so a lost interrupt gives a verdict, not a hang.
 */
#pragma once

void watchdog_start(void);
void watchdog_stop(void);

/* Names what the BSP does from now on, for the panic. */
void watchdog_enter(const char *phase);

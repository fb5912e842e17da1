/*
 * watchdog.h: a periodic timer interrupt on the BSP. It panics when no CPU makes
 * progress, so that a lost interrupt gives a verdict instead of a hang.
 */
#pragma once

void watchdog_start(void);
void watchdog_stop(void);

/* Sets the name of the current phase, for the panic message. */
void watchdog_enter(const char *phase);

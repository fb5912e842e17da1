/* traps.h: the IDT, shared by all CPUs, and the handler of exceptions. */
#pragma once
#include "vectors.h"

void traps_init(void); /* builds the IDT; once, on the BSP */
void traps_load(void); /* on every CPU */
void trap_handle(struct trap_frame *frame);

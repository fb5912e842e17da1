/* apic.h: the local APIC of the CPU that calls. x2APIC where there is one. */
#pragma once
#include "x86.h"

/* The highest APIC id a directed xAPIC message can name; 0xFF means everyone. */
#define XAPIC_MAX_ID 0xFE

/* On the BSP: choose the mode. Before anything else here. */
void apic_choose_mode(void);
bool apic_is_x2(void);

/* On every CPU: switch its APIC on, in the mode chosen. */
void apic_enable(void);
u32 apic_id(void);
void apic_end_of_interrupt(void);

void apic_send(u32 destination, u8 vector);
void apic_send_to_others(u8 vector);
void apic_send_nmi(u32 destination);
void apic_send_init(u32 destination);
void apic_send_startup(u32 destination, u32 address);

/* A slow periodic interrupt, so that a halted CPU looks at the clock again. */
void apic_start_tick(void);
void apic_stop_tick(void);

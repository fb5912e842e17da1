/* apic.h: the calling CPU's local APIC, in x2APIC mode if CPUID reports it. */
#pragma once
#include "x86.h"

/* The highest xAPIC destination of a single CPU; 0xFF is broadcast. */
#define XAPIC_MAX_ID 0xFE

/* On the BSP, before any other function here: chooses the mode. */
void apic_choose_mode(void);
bool apic_is_x2(void);

/* On every CPU: enables its APIC in the chosen mode. */
void apic_enable(void);
u32 apic_id(void);
void apic_end_of_interrupt(void);

void apic_send(u32 destination, u8 vector);
void apic_send_to_others(u8 vector);
void apic_send_nmi(u32 destination);
void apic_send_init(u32 destination);
void apic_send_startup(u32 destination, u32 address);

/* A slow periodic interrupt, so that a halted CPU checks its deadlines. */
void apic_start_tick(void);
void apic_stop_tick(void);

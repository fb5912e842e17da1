/*
 * exit.c: ends the machine by Volt's exit device, which is compatible with
 * QEMU's isa-debug-exit (QEMU exits with 2 * code + 1), or else by a reset.
 */
#include "exit.h"

#define EXIT_PORT 0xF4
#define KEYBOARD_COMMAND 0x64
#define KEYBOARD_PULSE_RESET 0xFE

void machine_exit(u32 code) {
    outl(EXIT_PORT, code);
    outb(KEYBOARD_COMMAND, KEYBOARD_PULSE_RESET);
    load_idt(NULL, 0);
    asm volatile("ud2"); /* triple fault, which resets too */
    halt_forever();
}

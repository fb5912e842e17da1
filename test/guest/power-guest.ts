/** Guests that notice the power button. */
import { ACPI_EVENT, PM1A_SLEEP_ENABLE, PORT } from '../../src/machine/ports.ts';
import { asm, program } from './tiny-guest.ts';

/** and al, bit; xor al, bit: zero once the bit is set */
export const untilButton = asm.untilZero([
  ...asm.in8(PORT.acpiEvents),
  ...[0x24, ACPI_EVENT.powerButton, 0x34, ACPI_EVENT.powerButton],
]);

const powerOff = [
  ...[0x66, 0xb8, PM1A_SLEEP_ENABLE & 0xff, PM1A_SLEEP_ENABLE >> 8], // mov ax, SLP_EN
  ...[0xba, PORT.pm1aControl & 0xff, PORT.pm1aControl >> 8, 0, 0], // mov edx, port
  ...[0x66, 0xef], // out dx, ax
];

/** Prints "ready", and when the button is pressed "bye", and powers itself off. */
export function obedientGuest(): Uint8Array {
  return program(asm.print('ready\n'), untilButton, asm.print('bye\n'), powerOff, asm.halt());
}

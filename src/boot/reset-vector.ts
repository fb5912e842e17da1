/**
 * What stands where a PC's firmware starts, F000:FFF0 in real mode: a reset. Kernels jump there to reboot. Linux does
 * so as its first choice on a machine with hardware-reduced ACPI, for which it expects EFI to have failed before.
 */
import { LAYOUT } from '../machine/layout.ts';
import { PORT } from '../machine/ports.ts';

const RESET = 0x06;

export function buildResetVector(): Uint8Array {
  const code = new Uint8Array(LAYOUT.resetVector.bytes);
  code.set([0xb0, RESET]); // mov al, 6
  code.set([0xba, PORT.resetControl & 0xff, PORT.resetControl >>> 8], 2); // mov dx, 0xcf9
  code.set([0xee], 5); // out dx, al
  code.set([0xf4, 0xeb, 0xfd], 6); // hlt; jmp back to it
  return code;
}

/**
 * Code at the reset vector, F000:FFF0 in real mode, where a PC's firmware starts: it resets the machine.
 * Kernels jump there to reboot. On hardware-reduced ACPI Linux does so first, as it expects EFI there.
 */
import { LAYOUT } from '../machine/layout.ts';
import { PORT, RESET_CONTROL_RESET } from '../machine/ports.ts';

export function buildResetVector(): Uint8Array {
  const code = new Uint8Array(LAYOUT.resetVector.bytes);
  code.set([0xb0, RESET_CONTROL_RESET]); // mov al, 6
  code.set([0xba, PORT.resetControl & 0xff, PORT.resetControl >>> 8], 2); // mov dx, 0xcf9
  code.set([0xee], 5); // out dx, al
  code.set([0xf4, 0xeb, 0xfd], 6); // hlt; jmp to the hlt
  return code;
}

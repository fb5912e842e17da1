/**
 * The words of the BIOS data area that kernels still read: before they look for MP tables (MPS 1.4 §4), for
 * their first serial port, and by INT 11h and 12h.
 */
import { viewOf } from '../binary/bytes.ts';
import { KIB } from '../machine/address.ts';
import { EBDA_START, LAYOUT } from '../machine/layout.ts';
import { PORT } from '../machine/ports.ts';

/** Offsets in the area at 0x400. */
const COM1_PORT = 0x00;
const EBDA_SEGMENT = 0x0e;
const EQUIPMENT = 0x10;
const BASE_MEMORY_KIB = 0x13;

/** There is an FPU; one serial port. No diskette, no initial video mode. */
const EQUIPMENT_WORD = (1 << 1) | (1 << 9);

/**
 * 256 bytes for 0x400: COM1, the equipment, the EBDA's real-mode segment and the KiB of base memory below it.
 */
export function buildBiosDataArea(): Uint8Array {
  const area = new Uint8Array(LAYOUT.biosDataArea.bytes);
  const view = viewOf(area);
  view.setUint16(COM1_PORT, PORT.com1, true);
  view.setUint16(EBDA_SEGMENT, EBDA_START / 16, true);
  view.setUint16(EQUIPMENT, EQUIPMENT_WORD, true);
  view.setUint16(BASE_MEMORY_KIB, EBDA_START / KIB, true);
  return area;
}

/** The two BIOS data area words that kernels still read before they look for MP tables. (MPS 1.4 §4) */
import { viewOf } from '../binary/bytes.ts';
import { KIB } from '../machine/address.ts';
import { EBDA_START, LAYOUT } from '../machine/layout.ts';

/** Offsets in the area at 0x400. */
const EBDA_SEGMENT = 0x0e;
const BASE_MEMORY_KIB = 0x13;

/** 256 bytes for 0x400: the EBDA's real-mode segment and the KiB of base memory below it. */
export function buildBiosDataArea(): Uint8Array {
  const area = new Uint8Array(LAYOUT.biosDataArea.bytes);
  const view = viewOf(area);
  view.setUint16(EBDA_SEGMENT, EBDA_START / 16, true);
  view.setUint16(BASE_MEMORY_KIB, EBDA_START / KIB, true);
  return area;
}

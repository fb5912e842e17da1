/**
 * The MSI-X table and pending bits. (PCI Express 5.0 §7.7.2, PCI 3.0 §6.8.2) What a vector does with an interrupt
 * follows from the table alone: nothing is remembered besides it.
 */
import { FUNCTION_WORD, MAX_VECTORS, ROUTE_WORDS } from './function-state.ts';
import { MSIX_CONTROL, MSIX_ENTRY, MSIX_ENTRY_MASK_BIT } from './regs.ts';

const F = FUNCTION_WORD;
const ENTRY_WORDS = MSIX_ENTRY.size / 4;
const DATA_WORD = MSIX_ENTRY.data / 4;
const CONTROL_WORD = MSIX_ENTRY.control / 4;
/** Messages to these addresses are interrupts; any other would be a write to memory. (Intel SDM 3A §11.11.1) */
const INTERRUPT_ADDRESS = 0xfee;
/** With 32-bit APIC ids KVM demands 0 there. (Linux kvm/irq_comm.c, kvm_msi_route_invalid) */
const RESERVED_HIGH_MASK = 0xff;

/** Reads 1, 2 or 4 bytes at `offset` of the table. Only aligned double words have a defined value. */
export function readMsixTable(words: Int32Array, offset: number, size: number): number {
  if (size !== 4 || offset % 4 !== 0 || offset >= words[F.vectors]! * MSIX_ENTRY.size) return 0;
  return words[F.table + offset / 4]! >>> 0;
}

/** Writes a double word of the table. Returns whether it changed. Reserved bits of Vector Control stay 0. */
export function writeMsixTable(words: Int32Array, offset: number, size: number, value: number): boolean {
  if (size !== 4 || offset % 4 !== 0 || offset >= words[F.vectors]! * MSIX_ENTRY.size) return false;
  const at = F.table + offset / 4;
  const kept = (offset / 4) % ENTRY_WORDS === CONTROL_WORD ? value & MSIX_ENTRY_MASK_BIT : value | 0;
  if (words[at] === kept) return false;
  words[at] = kept;
  return true;
}

/**
 * Whether the function sends the messages of `vector` now. Masked ones stay pending; those to an address that is no
 * interrupt's are not sent either.
 */
export function isVectorLive(words: Int32Array, vector: number, control: number): boolean {
  if ((control & (MSIX_CONTROL.enableBit | MSIX_CONTROL.functionMaskBit)) !== MSIX_CONTROL.enableBit)
    return false;
  if (vector < 0 || vector >= words[F.vectors]!) return false;
  const at = F.table + vector * ENTRY_WORDS;
  if (words[at + CONTROL_WORD]! & MSIX_ENTRY_MASK_BIT) return false;
  return words[at]! >>> 20 === INTERRUPT_ADDRESS && (words[at + 1]! & RESERVED_HIGH_MASK) === 0;
}

/** Notes the vector's message as the one that KVM is to have. Returns whether KVM had another. */
export function noteRoute(words: Int32Array, vector: number): boolean {
  const entry = F.table + vector * ENTRY_WORDS;
  const route = F.routed + vector * ROUTE_WORDS;
  let changed = false;
  for (let i = 0; i <= DATA_WORD; i++) {
    if (words[route + i] === words[entry + i]) continue;
    words[route + i] = words[entry + i]!;
    changed = true;
  }
  return changed;
}

/** Whether KVM is to have a route for the vector: an address of 0 is no interrupt's. */
export function hasRoute(words: Int32Array, vector: number): boolean {
  return vector < MAX_VECTORS && words[F.routed + vector * ROUTE_WORDS] !== 0;
}

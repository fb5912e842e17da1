/**
 * State of one PCI function, shared by all threads: words in a SharedArrayBuffer. Whoever holds the bus lock may write
 * them.
 */
import { BAR_FLAGS_MASK, COMMAND, CONFIG } from './regs.ts';
import { TWO_POW_32 } from '../binary/bytes.ts';

/** Most MSI-X vectors of a function; a power of two, by which GSIs are assigned. */
export const MAX_VECTORS = 64;
/** Words of a vector in `routed`: address, upper half of the address, data. */
export const ROUTE_WORDS = 3;
const ENTRY_WORDS = 4;

export const FUNCTION_WORD = {
  /** 1: the function answers configuration accesses. */
  present: 0,
  /** Entries of the MSI-X table. */
  vectors: 1,
  /** 1: the notify addresses of the queues are ioeventfds, at the BAR's address in the two words that follow. */
  notifiable: 2,
  notifyLow: 3,
  notifyHigh: 4,
  /** Configuration space. */
  config: 8,
  /** MSI-X table, as the guest wrote it. */
  table: 8 + CONFIG.size / 4,
  /** The message of each vector as KVM has it. */
  routed: 8 + CONFIG.size / 4 + ENTRY_WORDS * MAX_VECTORS,
  /** By source of interrupts: 0, or 1 + the vector that KVM turns its eventfd into. */
  attached: 8 + CONFIG.size / 4 + (ENTRY_WORDS + ROUTE_WORDS) * MAX_VECTORS,
  size: 8 + CONFIG.size / 4 + (ENTRY_WORDS + ROUTE_WORDS + 1) * MAX_VECTORS,
} as const;

const F = FUNCTION_WORD;

/** Configuration space at reset, and the bits of it that software can write. Both are 64 words. */
export interface FunctionShape {
  readonly initial: Uint32Array;
  readonly writable: Uint32Array;
  /** Entries of the MSI-X table; 0: no MSI-X. */
  readonly vectors: number;
}

export function createFunctionWords(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * F.size));
}

/** The function as it is after power-on. Every vector is masked. (PCI Express 5.0 §7.7.2.8) */
export function resetFunction(words: Int32Array, { initial, vectors }: FunctionShape): void {
  words.fill(0);
  words.set(initial, F.config);
  words[F.vectors] = vectors;
  for (let vector = 0; vector < vectors; vector++) words[F.table + ENTRY_WORDS * vector + 3] = 1;
}

/** A 16-bit register of the configuration space. */
export function configRegister(words: Int32Array, offset: number): number {
  return (words[F.config + (offset >>> 2)]! >>> (8 * (offset & 2))) & 0xffff;
}

/** Reads 1, 2 or 4 bytes. Reads across a double word give all ones, those behind the space 0. */
export function readConfigSpace(words: Int32Array, offset: number, size: number): number {
  if (offset >= CONFIG.size) return 0;
  const shift = 8 * (offset & 3);
  if (shift + 8 * size > 32) return maskOf(size);
  return ((words[F.config + (offset >>> 2)]! >>> shift) & maskOf(size)) >>> 0;
}

/** Writes the writable bits among 1, 2 or 4 bytes. Writes across a double word are ignored. */
export function writeConfigSpace(
  words: Int32Array,
  writable: Uint32Array,
  offset: number,
  size: number,
  value: number,
): void {
  const shift = 8 * (offset & 3);
  if (offset >= CONFIG.size || shift + 8 * size > 32) return;
  const register = offset >>> 2;
  const mask = (maskOf(size) << shift) & writable[register]!;
  words[F.config + register] = (words[F.config + register]! & ~mask) | ((value << shift) & mask);
}

export function maskOf(size: number): number {
  return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
}

/** Address in a 64-bit memory BAR 0. */
export function barAddress(words: Int32Array): number {
  const low = words[F.config + CONFIG.bar0 / 4]! & ~BAR_FLAGS_MASK;
  return (low >>> 0) + (words[F.config + CONFIG.bar0 / 4 + 1]! >>> 0) * TWO_POW_32;
}

/** Writes BAR 0, as firmware does. */
export function placeBar(words: Int32Array, address: number): void {
  const low = F.config + CONFIG.bar0 / 4;
  words[low] = (address % TWO_POW_32) | (words[low]! & BAR_FLAGS_MASK);
  words[low + 1] = Math.floor(address / TWO_POW_32);
}

/** Whether the function claims accesses to its BAR. */
export function decodesMemory(words: Int32Array): boolean {
  return words[F.present] !== 0 && (configRegister(words, CONFIG.command) & COMMAND.memorySpaceBit) !== 0;
}

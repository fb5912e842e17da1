/** How accesses reach a function's configuration space: ECAM, and configuration mechanism #1. */
import { ECAM_FUNCTION_BYTES } from './regs.ts';

export const DEVICES_PER_BUS = 32;
const FUNCTIONS_PER_DEVICE = 8;
/** ECAM of one bus. (PCI Express 5.0 §7.2.2) */
export const ECAM_BUS_BYTES = DEVICES_PER_BUS * FUNCTIONS_PER_DEVICE * ECAM_FUNCTION_BYTES;

/** CONFIG_ADDRESS. (PCI 3.0 §3.2.2.3.2) */
const ENABLE_BIT = 0x8000_0000;

/**
 * Number of a slot: bus × 32 + device. Every function of Volt is function 0 of its device. -1: another function,
 * which no device has.
 */
export function slotOfEcam(offset: number): number {
  const functionNumber = Math.floor(offset / ECAM_FUNCTION_BYTES);
  return functionNumber % FUNCTIONS_PER_DEVICE === 0 ? functionNumber / FUNCTIONS_PER_DEVICE : -1;
}

/** The slot that CONFIG_ADDRESS selects, or -1: it is not enabled, or names a function other than 0. */
export function slotOfConfigAddress(address: number): number {
  if ((address & ENABLE_BIT) === 0 || ((address >>> 8) & (FUNCTIONS_PER_DEVICE - 1)) !== 0) return -1;
  return (address >>> 11) & 0x1fff;
}

/** Offset in configuration space of byte `port` (0 to 3) of CONFIG_DATA. */
export function offsetOfConfigAddress(address: number, port: number): number {
  return (address & 0xfc) + port;
}

/** `00:1f.0`, as lspci writes it. */
export function nameOfSlot(slot: number): string {
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${hex(Math.floor(slot / DEVICES_PER_BUS))}:${hex(slot % DEVICES_PER_BUS)}.0`;
}

/**
 * Hotplug registers of PCI slots, which the methods of the DSDT access: events for the guest, and its answers. The
 * registers are described in machine/ports.ts. Runs under the bus lock.
 */
import { PCI_HOTPLUG } from '../machine/ports.ts';
import { DEVICES_PER_BUS } from './address.ts';

const BUSES = 2;
const SLOTS = BUSES * DEVICES_PER_BUS;

const W = {
  bus: 0,
  slot: 1,
  /** By bus: a bit for each device. */
  inserted: 2,
  removing: 2 + BUSES,
  ejected: 2 + 2 * BUSES,
  /** By slot: how often _OST was called, and its last status. */
  ostCount: 2 + 3 * BUSES,
  ostStatus: 2 + 3 * BUSES + SLOTS,
} as const;

export const PCI_HOTPLUG_WORDS = 2 + 3 * BUSES + 2 * SLOTS;

/** What a write asks for: an `eject` of the slot in `ejectedSlot`, or that whoever waits looks at the answers. */
export const PCI_REQUEST = { none: 0, eject: 1, answer: 2 } as const;
export type PciRequest = (typeof PCI_REQUEST)[keyof typeof PCI_REQUEST];

export function pciHotplugRead(words: Int32Array, offset: number): number {
  const bus = words[W.bus]!;
  switch (offset) {
    case PCI_HOTPLUG.bus:
      return bus;
    case PCI_HOTPLUG.inserted:
      return takeEvents(words, W.inserted + bus);
    case PCI_HOTPLUG.removing:
      return takeEvents(words, W.removing + bus);
    case PCI_HOTPLUG.slot:
      return words[W.slot]!;
    default:
      return 0;
  }
}

export function pciHotplugWrite(words: Int32Array, offset: number, value: number): PciRequest {
  switch (offset) {
    case PCI_HOTPLUG.bus:
      words[W.bus] = value >>> 0 < BUSES ? value : 0;
      return PCI_REQUEST.none;
    case PCI_HOTPLUG.eject:
      if (value >>> 0 >= DEVICES_PER_BUS) return PCI_REQUEST.none;
      words[W.slot] = words[W.bus]! * DEVICES_PER_BUS + value;
      return PCI_REQUEST.eject;
    case PCI_HOTPLUG.slot:
      words[W.slot] = value >>> 0 < SLOTS ? value : 0;
      return PCI_REQUEST.none;
    case PCI_HOTPLUG.status: {
      const slot = words[W.slot]!;
      words[W.ostStatus + slot] = value;
      words[W.ostCount + slot] = (words[W.ostCount + slot]! + 1) | 0;
      return PCI_REQUEST.answer;
    }
    default:
      return PCI_REQUEST.none;
  }
}

/** The slot that a write to `eject` names. */
export function ejectedSlot(words: Int32Array): number {
  return words[W.slot]!;
}

/** Notes that the device of a slot was ejected and is to be removed. */
export function noteEjected(words: Int32Array, slot: number): void {
  words[W.ejected + busOf(slot)]! |= bitOf(slot);
  clearEvents(words, slot);
}

export function isEjected(words: Int32Array, slot: number): boolean {
  return (words[W.ejected + busOf(slot)]! & bitOf(slot)) !== 0;
}

/** The slot is free for another device. */
export function clearEjected(words: Int32Array, slot: number): void {
  words[W.ejected + busOf(slot)]! &= ~bitOf(slot);
}

export function noteInserted(words: Int32Array, slot: number): void {
  words[W.inserted + busOf(slot)]! |= bitOf(slot);
}

export function requestRemoval(words: Int32Array, slot: number): void {
  words[W.removing + busOf(slot)]! |= bitOf(slot);
}

/** Takes back events that the guest has not read. */
export function clearEvents(words: Int32Array, slot: number): void {
  words[W.inserted + busOf(slot)]! &= ~bitOf(slot);
  words[W.removing + busOf(slot)]! &= ~bitOf(slot);
}

/** The guest's last answer about a slot: how often it has answered, and its _OST status. */
export function lastOst(
  words: Int32Array,
  slot: number,
): { readonly count: number; readonly status: number } {
  return { count: words[W.ostCount + slot]!, status: words[W.ostStatus + slot]! >>> 0 };
}

function takeEvents(words: Int32Array, at: number): number {
  const events = words[at]!;
  words[at] = 0;
  return events >>> 0;
}

function busOf(slot: number): number {
  return Math.floor(slot / DEVICES_PER_BUS);
}

function bitOf(slot: number): number {
  return 1 << (slot % DEVICES_PER_BUS);
}

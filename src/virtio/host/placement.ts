/** Address and interrupt of each virtio device, for the ACPI tables, KVM and the bus. */
import { guestAddress, PAGE_BYTES, type GuestAddress } from '../../machine/address.ts';
import { PCI_PIN_GSIS, VIRTIO_GSIS } from '../../machine/irqs.ts';
import { LAYOUT, MAX_PCI_BUSES, PCI_WINDOW_BYTES } from '../../machine/layout.ts';
import { DEVICES_PER_BUS } from '../../pci/address.ts';
import { PCI_BAR } from '../transport/pci.regs.ts';
import type { DeviceConfig } from './specs.ts';

export interface SlotPlacement {
  readonly address: GuestAddress;
  readonly bytes: number;
  /** Global system interrupt: edge-triggered and active high on MMIO, that of the interrupt pin on PCI. */
  readonly gsi: number;
  /** Bus × 32 + device; undefined: on MMIO. */
  readonly pciSlot?: number;
}

/** Where the devices of a machine are. */
export interface BusChoice {
  /** undefined: MMIO. */
  readonly pci: PciBusPlan | undefined;
}

/** PCI buses, and the slot of each device, in the order of the devices. */
export interface PciBusPlan {
  readonly buses: number;
  readonly slots: readonly number[];
}

/** Devices that bus 0 has from the start at most, so that there is room to plug more. */
const DEVICES_ON_FIRST_BUS = 23;
/** Device 0 of bus 0 is the host bridge. */
const FIRST_SLOT = 1;
/** The last slot has no GSIs: KVM has 4096. */
export const MAX_PCI_SLOTS = MAX_PCI_BUSES * DEVICES_PER_BUS - 1;

/** Gives each device the slot that it had in `before`, or the next one. */
export function planPciBuses(devices: number, before?: readonly number[]): PciBusPlan {
  const slots = before ?? Array.from({ length: devices }, (_, i) => FIRST_SLOT + i);
  const isLarge = devices > DEVICES_ON_FIRST_BUS || slots.some((slot) => slot >= DEVICES_PER_BUS);
  return { buses: isLarge ? MAX_PCI_BUSES : 1, slots };
}

/** Register window and interrupt of each device, in order. */
export function placeDevices(devices: readonly DeviceConfig[], { pci }: BusChoice): SlotPlacement[] {
  if (pci) return pci.slots.slice(0, devices.length).map(placePciSlot);
  return devices.map((_, slot) => ({
    address: guestAddress(LAYOUT.virtio.address + slot * PAGE_BYTES),
    bytes: PAGE_BYTES,
    gsi: VIRTIO_GSIS[slot]!,
  }));
}

/** Where the BAR of a slot's device is at the start: the guest may move it. */
export function placePciSlot(slot: number): SlotPlacement {
  const [bus, device] = [Math.floor(slot / DEVICES_PER_BUS), slot % DEVICES_PER_BUS];
  const address = LAYOUT.mmioHole.address + bus * PCI_WINDOW_BYTES + device * PCI_BAR.size;
  return {
    address: guestAddress(address),
    bytes: PCI_BAR.size,
    gsi: PCI_PIN_GSIS[slot % PCI_PIN_GSIS.length]!,
    pciSlot: slot,
  };
}

/** Kernel parameters that declare the devices to a kernel without ACPI. (Linux `virtio_mmio.device=`) */
export function virtioCmdline(placements: readonly SlotPlacement[]): string {
  return placements
    .map(({ address, bytes, gsi }) => `virtio_mmio.device=${bytes / 1024}K@0x${address.toString(16)}:${gsi}`)
    .join(' ');
}

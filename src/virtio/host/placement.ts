/** MMIO address and interrupt of each virtio device, for the ACPI tables, KVM and the bus. */
import { guestAddress, PAGE_BYTES, type GuestAddress } from '../../machine/address.ts';
import { VIRTIO_GSIS } from '../../machine/irqs.ts';
import { LAYOUT } from '../../machine/layout.ts';
import type { DeviceConfig } from './specs.ts';

export interface SlotPlacement {
  readonly address: GuestAddress;
  readonly bytes: number;
  /** Global system interrupt: edge-triggered, active high. */
  readonly gsi: number;
}

/** Assigns one page and one interrupt to each device, in order. */
export function placeDevices(devices: readonly DeviceConfig[]): SlotPlacement[] {
  return devices.map((_, slot) => ({
    address: guestAddress(LAYOUT.virtio.address + slot * PAGE_BYTES),
    bytes: PAGE_BYTES,
    gsi: VIRTIO_GSIS[slot]!,
  }));
}

/** Kernel parameters that declare the devices to a kernel without ACPI. (Linux `virtio_mmio.device=`) */
export function virtioCmdline(placements: readonly SlotPlacement[]): string {
  return placements
    .map(({ address, bytes, gsi }) => `virtio_mmio.device=${bytes / 1024}K@0x${address.toString(16)}:${gsi}`)
    .join(' ');
}

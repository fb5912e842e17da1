/** Address and interrupt of each virtio device: for the ACPI tables, for KVM and for the bus. */
import { guestAddress, PAGE_BYTES, type GuestAddress } from '../../machine/address.ts';
import { VIRTIO_GSIS } from '../../machine/irqs.ts';
import { LAYOUT } from '../../machine/layout.ts';
import type { DeviceConfig } from './specs.ts';

export interface SlotPlacement {
  readonly address: GuestAddress;
  readonly bytes: number;
  /** Edge-triggered, active high. */
  readonly gsi: number;
}

/** One page and one interrupt for each device, in order. */
export function placeDevices(devices: readonly DeviceConfig[]): SlotPlacement[] {
  return devices.map((_, slot) => ({
    address: guestAddress(LAYOUT.virtio.address + slot * PAGE_BYTES),
    bytes: PAGE_BYTES,
    gsi: VIRTIO_GSIS[slot]!,
  }));
}

/** For kernels without ACPI: what their command line says about the devices. (Linux virtio_mmio.device=) */
export function virtioCmdline(places: readonly SlotPlacement[]): string {
  return places
    .map(({ address, bytes, gsi }) => `virtio_mmio.device=${bytes / 1024}K@0x${address.toString(16)}:${gsi}`)
    .join(' ');
}

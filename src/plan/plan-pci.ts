/** The PCI buses of a machine: where their configuration spaces are, and the memory that their devices have. */
import type { AcpiPci } from '../acpi/acpi-inputs.ts';
import { alignUp, GIB } from '../machine/address.ts';
import { LAYOUT, PCI_HIGH_WINDOW_BYTES, PCI_WINDOW_BYTES, type RamRange } from '../machine/layout.ts';
import { DEVICES_PER_BUS, ECAM_BUS_BYTES } from '../pci/address.ts';
import { MAX_PCI_SLOTS, placePciSlot, type PciBusPlan } from '../virtio/host/placement.ts';
import type { PmemPlacement } from '../virtio/pmem/placement.ts';

/** Each bus has memory below 4 GiB, where devices are at the start, and above all RAM and persistent memory. */
export function planPci(
  { buses }: PciBusPlan,
  ranges: readonly RamRange[],
  pmem: readonly PmemPlacement[],
): AcpiPci {
  const ends = [...ranges, ...pmem].map(({ address, bytes }) => address + bytes);
  const high = alignUp(Math.max(LAYOUT.highMemory.address, ...ends), GIB);
  return {
    ecam: { address: LAYOUT.pciEcam.address, bytes: buses * ECAM_BUS_BYTES },
    buses: Array.from({ length: buses }, (_, number) => ({
      number,
      windows: [
        { address: LAYOUT.mmioHole.address + number * PCI_WINDOW_BYTES, bytes: PCI_WINDOW_BYTES },
        { address: high + number * PCI_HIGH_WINDOW_BYTES, bytes: PCI_HIGH_WINDOW_BYTES },
      ],
      slots: slotsOf(number),
    })),
  };
}

/** All but the host bridge and the last slot, which has no GSIs. */
function slotsOf(bus: number): number[] {
  return Array.from({ length: DEVICES_PER_BUS }, (_, device) => device).filter((device) => {
    const slot = bus * DEVICES_PER_BUS + device;
    return slot > 0 && slot < MAX_PCI_SLOTS;
  });
}

/** Interrupt of each device of bus 0 that is there at the start, for the MP table. */
export function pinsOfFirstBus({ slots }: PciBusPlan): Map<number, number> {
  const onBus = slots.filter((slot) => slot < DEVICES_PER_BUS);
  return new Map(onBus.map((slot) => [slot, placePciSlot(slot).gsi]));
}

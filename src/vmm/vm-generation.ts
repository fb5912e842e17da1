/**
 * The VM generation ID after a restore: the guest learns that it is a copy of another guest, or of itself at an
 * earlier time, so that random numbers and whatever else must not repeat are made anew.
 * (Microsoft, "Virtual Machine Generation ID", 2012)
 */
import type { GuestAddress } from '../machine/address.ts';
import { ACPI_EVENT } from '../machine/ports.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { AcpiEvents } from './acpi-events.ts';

/**
 * Writes the ID to guest memory and raises the ACPI event, by which Linux reseeds its random number generator.
 * Call it when memory and interrupt controllers are restored and no vCPU runs yet: the event comes before
 * whatever the guest does next.
 */
export function changeVmGeneration(
  { memory, acpiEvents }: { readonly memory: GuestMemory; readonly acpiEvents: AcpiEvents },
  address: GuestAddress,
  id: Uint8Array,
): void {
  memory.write(address, id);
  acpiEvents.raise(ACPI_EVENT.vmGeneration);
}

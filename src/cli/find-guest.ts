/** Finds the guest that a command names: by its process id, its name, or the path of its socket. */
import { existsSync } from 'node:fs';
import { findSocket, listSockets, VoltError, type GuestSocket } from '../api/index.ts';
import { isGuestName } from '../api/guests/guest-name.ts';
import { findRunning, needRunning } from '../api/guests/running-guest.ts';

/** The path of the guest's socket. Throws VoltError 'host' if no such guest runs. */
export function guestSocket(guest: string): string {
  if (/^\d+$/.test(guest)) return findSocket(Number(guest));
  if (!isGuestName(guest)) return guest;
  const running = findRunning(guest);
  if (running) return running.path;
  // A socket in this folder.
  return existsSync(guest) ? guest : needRunning(guest).path;
}

/** The socket of the only running guest. Throws VoltError if there is none, or more than one. */
export async function onlyGuestSocket(command: string): Promise<string> {
  return onlyGuest(await listSockets(), command).path;
}

/** The only one of `guests`. Throws VoltError if there is none, or more than one. */
export function onlyGuest(
  guests: readonly Pick<GuestSocket, 'pid' | 'name' | 'path'>[],
  command: string,
): Pick<GuestSocket, 'path'> {
  const [first, ...others] = guests;
  if (!first) {
    throw new VoltError(
      'host',
      `Cannot find a guest: none runs with a control socket; start one with volt --name NAME`,
    );
  }
  if (others.length > 0) {
    const all = guests.map(({ pid, name }) => name ?? pid).join(', ');
    throw new VoltError(
      'usage',
      `Cannot choose a guest: ${guests.length} run; use volt ${command} with one of ${all}`,
    );
  }
  return first;
}

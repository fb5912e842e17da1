/** Finds the guest that a command names. */
import { findSocket, listSockets, VoltError, type GuestSocket } from '../api/index.ts';

/** Converts a process id, or the path of a socket, to the path of a socket. Throws VoltError 'host'. */
export function guestSocket(guest: string): string {
  return /^\d+$/.test(guest) ? findSocket(Number(guest)) : guest;
}

/** The socket of the only running guest. Throws VoltError if there is none, or more than one. */
export async function onlyGuestSocket(command: string): Promise<string> {
  return onlyGuest(await listSockets(), command).path;
}

/** The only one of `guests`. Throws VoltError if there is none, or more than one. */
export function onlyGuest(guests: readonly GuestSocket[], command: string): GuestSocket {
  const [first, ...others] = guests;
  if (!first) {
    throw new VoltError(
      'host',
      `Cannot find a guest: none runs with a control socket; start one with volt --control`,
    );
  }
  if (others.length > 0) {
    throw new VoltError(
      'usage',
      `Cannot choose a guest: ${guests.length} run; use volt ${command} with one of ${guests.map(({ pid }) => pid).join(', ')}`,
    );
  }
  return first;
}

/** Finds the guest that a command names. */
import { findSocket, listSockets, VoltError } from '../api/index.ts';

/** Converts a process id, or the path of a socket, to the path of a socket. Throws VoltError 'host'. */
export function guestSocket(guest: string): string {
  return /^\d+$/.test(guest) ? findSocket(Number(guest)) : guest;
}

/** The socket of the only running guest. Throws VoltError if there is none, or more than one. */
export async function onlyGuestSocket(command: string): Promise<string> {
  const guests = await listSockets();
  if (guests.length === 1) return guests[0]!.path;
  if (guests.length === 0) {
    throw new VoltError(
      'host',
      `Cannot find a guest: none runs with a control socket; start one with volt --control`,
    );
  }
  throw new VoltError(
    'usage',
    `Cannot choose a guest: ${guests.length} run; use volt ${command} with one of ${guests.map(({ pid }) => pid).join(', ')}`,
  );
}

/** Which guest a command means. */
import { findSocket, listSockets, VoltError } from '../api/index.ts';

/** A process id or a path of a socket to the path of a socket. Throws VoltError 'host'. */
export function guestSocket(guest: string): string {
  return /^\d+$/.test(guest) ? findSocket(Number(guest)) : guest;
}

/** The socket of the one guest that runs. Throws VoltError when none does, or several. */
export async function onlyGuestSocket(command: string): Promise<string> {
  const guests = await listSockets();
  if (guests.length === 1) return guests[0]!.path;
  if (guests.length === 0) {
    throw new VoltError(
      'host',
      `Cannot find a guest: none runs with a control socket (expected one started with volt --control)`,
    );
  }
  throw new VoltError(
    'usage',
    `Cannot tell which guest is meant: ${guests.length} run (expected volt ${command} with one of ${guests.map(({ pid }) => pid).join(', ')})`,
  );
}

/** Finds a guest by its name, and ends it. */
import { peerCredentials } from '../../ffi/unix-socket.ts';
import { VoltError } from '../../volt-error.ts';
import { connectControl, type ControlClient } from '../control/client.ts';
import { listNamed, type GuestEntry } from '../control/directory.ts';
import { findDefinition } from './definitions.ts';

/** The running guest of this name. */
export function findRunning(name: string): GuestEntry | undefined {
  return listNamed().find((guest) => guest.name === name);
}

/** Throws VoltError 'host' if no guest of this name runs. */
export function needRunning(name: string): GuestEntry {
  const guest = findRunning(name);
  if (guest) return guest;
  const hint = findDefinition(name) ? `volt start ${name} starts it` : 'volt ps -a lists guests';
  throw new VoltError('host', `Cannot find guest ${name}: none of this name runs; ${hint}`);
}

/**
 * Ends a guest and waits until its process has closed its connections: at once, or by SIGTERM, on which Volt
 * presses the power button first. Throws VoltError 'host' if it still runs after `timeoutMs`.
 */
export async function endGuest(
  path: string,
  guest: string,
  { now, timeoutMs }: { readonly now: boolean; readonly timeoutMs: number },
): Promise<void> {
  using client = await connectControl(path);
  const over = watchEnd(client);
  // A process id may be given to another process once its own has ended; this one holds our connection.
  if (now) await client.call('stop', {}).catch(() => {});
  else process.kill(processOf(client), 'SIGTERM');
  const ended = await Promise.race([over, Bun.sleep(timeoutMs).then(() => false)]);
  if (ended) return;
  throw new VoltError(
    'host',
    `Cannot stop ${guest}: it still runs after ${timeoutMs / 1000} s; volt stop --now ends it at once`,
  );
}

/** Resolves to true when the guest's process closes the connection. */
async function watchEnd(client: ControlClient): Promise<true> {
  try {
    for await (const event of client.events()) void event;
  } catch {
    // It has ended.
  }
  return true;
}

function processOf({ fd, path }: ControlClient): number {
  const pid = fd === undefined ? undefined : peerCredentials(fd)?.pid;
  if (pid !== undefined) return pid;
  throw new VoltError('host', `Cannot stop the guest at ${path}: it has closed the connection; try again`);
}

/** `volt health`: one line and an exit code, by the convention of monitoring plug-ins. */
import { callOnce, listSockets, type GuestSocket } from '../api/index.ts';
import { isGuestName } from '../api/guests/guest-name.ts';
import { formatDuration } from './ctl-format.ts';
import { guestSocket } from './find-guest.ts';
import { oneLine } from './log.ts';
import { writeStdout } from './output.ts';

/** Exit codes of Nagios plug-ins. */
const HEALTH = { ok: 0, warning: 1, critical: 2 } as const;
type Health = keyof typeof HEALTH;

interface Verdict {
  readonly health: Health;
  readonly text: string;
}

export interface HealthFlags {
  readonly json?: true | undefined;
  /** Seconds. */
  readonly timeout: number;
}

/** Checks one guest, or without a name all that `volt ps` lists. Returns the exit code. */
export async function health(guest: string | undefined, flags: HealthFlags): Promise<number> {
  const timeoutMs = flags.timeout * 1000;
  const guests = guest === undefined ? await listSockets() : [await askGuest(guest, timeoutMs)];
  const verdicts = guests.map(judgeGuest);
  if (verdicts.length === 0) verdicts.push({ health: 'critical', text: 'no guest runs' });
  const worst = verdicts.reduce((a, b) => (HEALTH[b.health] > HEALTH[a.health] ? b : a));
  const text = verdicts.map((verdict) => verdict.text).join(', ');
  if (flags.json) writeStdout(`${JSON.stringify({ health: worst.health, guests: verdicts }, null, 2)}\n`);
  else writeStdout(`${worst.health.toUpperCase()}: ${oneLine(text)}\n`);
  return HEALTH[worst.health];
}

async function askGuest(guest: string, timeoutMs: number): Promise<GuestSocket> {
  const isPid = /^\d+$/.test(guest);
  const common = { name: isGuestName(guest) ? guest : undefined, isUnit: false };
  try {
    const path = guestSocket(guest);
    const status = await callOnce(path, 'status', {}, timeoutMs);
    return { ...common, pid: status.pid, path, status };
  } catch {
    return { ...common, pid: isPid ? Number(guest) : 0, path: guest, status: undefined };
  }
}

function judgeGuest({ pid, name, path, status }: GuestSocket): Verdict {
  if (status === undefined)
    return { health: 'critical', text: `${name ?? (pid > 0 ? `guest ${pid}` : path)} does not answer` };
  const text = `guest ${name ?? pid} ${status.state} for ${formatDuration(status.uptimeMs)}, ${status.vcpus} vCPUs`;
  const healthOf = { running: 'ok', paused: 'warning', stopped: 'critical' } as const;
  return { health: healthOf[status.state], text };
}

/** `volt inspect NAME`: what there is to know about a guest besides its machine. */
import { listSockets, type VmConfig } from '../api/index.ts';
import { findDefinition } from '../api/guests/definitions.ts';
import { logPath } from '../api/guests/start-guest.ts';
import { configOf } from './config.ts';
import { formatDuration } from './ctl-format.ts';

export interface GuestDescription {
  readonly name?: string;
  readonly state: string;
  readonly pid?: number;
  readonly uptimeMs?: number;
  readonly socket?: string;
  /** systemd's unit. */
  readonly unit?: string;
  readonly definition?: string;
  readonly log?: string;
}

/** A guest by its name or process id. Throws VoltError. */
export async function describeGuest(
  guest: string,
): Promise<{ readonly config: VmConfig; readonly about: GuestDescription }> {
  const config = await configOf(guest);
  const running = (await listSockets()).find(({ name, pid }) => name === guest || String(pid) === guest);
  const name = running?.name ?? (/^\d+$/.test(guest) ? undefined : guest);
  const definition = name === undefined ? undefined : findDefinition(name)?.path;
  const { pid, path: socket, status, isUnit } = running ?? {};
  return {
    config,
    about: dropMissing({
      name,
      state: status?.state ?? (running ? 'not answering' : 'stopped'),
      pid,
      uptimeMs: status?.uptimeMs,
      socket,
      unit: isUnit ? `volt@${name}.service` : undefined,
      definition,
      log: definition === undefined || isUnit ? undefined : logPath(name!),
    }),
  };
}

type Missing<T> = { readonly [K in keyof T]: T[K] | undefined };

function dropMissing(about: Missing<Required<GuestDescription>>): GuestDescription {
  return Object.fromEntries(
    Object.entries(about).filter(([, value]) => value !== undefined),
  ) as unknown as GuestDescription;
}

export function formatGuest(about: GuestDescription): string[] {
  const { name, state, pid, uptimeMs, socket, unit, definition, log } = about;
  const rows = [
    ['Guest', name ?? String(pid)],
    ['State', uptimeMs === undefined ? state : `${state} for ${formatDuration(uptimeMs)}`],
    ['Process', pid],
    ['Socket', socket],
    ['Unit', unit],
    ['File', definition],
    ['Log', log],
  ] as const;
  return rows.flatMap(([title, value]) => (value === undefined ? [] : [`${title.padEnd(9)} ${value}`]));
}

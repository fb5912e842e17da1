/** Guests as services of systemd: volt@NAME, whose unit the package brings. */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { VoltError } from '../../volt-error.ts';
import type { Definition } from './definitions.ts';
import { SYSTEM_DEFINITIONS } from './places.ts';

/** Exists if systemd is this host's init. (sd_booted(3)) */
const BOOTED = '/run/systemd/system';

export const unitOf = (name: string) => `volt@${name}.service`;

/** Whether systemd runs the guest of this definition: as root, from /etc/volt, with the unit installed. */
export function isServedBySystemd({ name, path }: Definition): boolean {
  if (process.getuid?.() !== 0 || dirname(path) !== SYSTEM_DEFINITIONS || !existsSync(BOOTED)) return false;
  return systemctl('cat', unitOf(name)).exitCode === 0;
}

/** Throws VoltError 'host' with the first line of systemctl's complaint. */
export function callSystemctl(action: 'start' | 'stop' | 'restart' | 'disable', name: string): void {
  const { exitCode, stderr } = systemctl(action, unitOf(name));
  if (exitCode === 0) return;
  const line = stderr.toString().trim().split('\n')[0] ?? '';
  throw new VoltError(
    'host',
    `Cannot ${action} ${name}: systemctl says: ${line || `exit code ${exitCode}`}; see volt logs ${name}`,
  );
}

function systemctl(...words: readonly string[]) {
  return Bun.spawnSync(['systemctl', ...words], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' });
}

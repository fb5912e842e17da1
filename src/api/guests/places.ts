/** Where guests are defined, and where the output of those that run without systemd goes. */
import { join, isAbsolute } from 'node:path';
import { homedir } from 'node:os';

/** The folder of definitions that systemd's unit reads. */
export const SYSTEM_DEFINITIONS = '/etc/volt';

const isRoot = () => process.getuid?.() === 0;

function fromEnvironment(variable: string): string[] {
  const path = process.env[variable];
  return path !== undefined && isAbsolute(path) ? [join(path, 'volt')] : [];
}

/** Folders of definitions, NAME.json; new ones are written to the first. */
export function definitionFolders(): readonly string[] {
  const own = isRoot() ? SYSTEM_DEFINITIONS : join(homedir(), '.config/volt');
  return [...new Set([...fromEnvironment('XDG_CONFIG_HOME'), own])];
}

/** The folder of logs, NAME.log, of guests that `volt start` has started without systemd. */
export function logFolder(): string {
  const [given] = fromEnvironment('XDG_STATE_HOME');
  return given ?? (isRoot() ? '/var/log/volt' : join(homedir(), '.local/state/volt'));
}

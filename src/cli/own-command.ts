/** How this very Volt is started again. */
import { resolve } from 'node:path';

/** The executable, or Bun with the entry point of this source tree. */
export function ownCommand(): readonly string[] {
  const entry = process.argv[1] ?? '';
  return /\.[jt]s$/.test(entry) && !entry.startsWith('/$bunfs/')
    ? [process.execPath, resolve(entry)]
    : [process.execPath];
}

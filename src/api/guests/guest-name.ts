/** Names of guests: one rule for files, sockets, and units of systemd, which need no escaping with it. */
import { VoltError } from '../../volt-error.ts';

/** Begins with a letter, so that no name is a process id or a flag; has no dot or slash, so that none is a path. */
const NAME = /^[a-z][a-z0-9_-]{0,47}$/i;
/** A folder beside the folders of systemd's units. */
const RESERVED = 'names';

export function isGuestName(text: string): boolean {
  return NAME.test(text) && text !== RESERVED;
}

/** Throws VoltError 'usage' if `text` cannot name a guest. */
export function checkGuestName(text: string): string {
  if (isGuestName(text)) return text;
  const found = text === RESERVED ? 'this name is reserved' : JSON.stringify(text.slice(0, 60));
  throw new VoltError(
    'usage',
    `Cannot name a guest so: ${found} (expected a letter, then up to 47 letters, digits, - and _)`,
  );
}

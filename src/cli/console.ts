/** `volt console`: this terminal as the console of a running guest. */
import { EXIT_CODE } from '../api/index.ts';
import { attachToConsole } from '../api/attach-console.ts';
import { guestSocket } from './find-guest.ts';
import { createLog } from './log.ts';
import { writeBytes } from './output.ts';

export interface ConsoleFlags {
  readonly readOnly?: true | undefined;
  readonly take?: true | undefined;
  /** false by --no-history. */
  readonly history: boolean;
}

export async function attach(guest: string, { readOnly, take, history }: ConsoleFlags): Promise<number> {
  const { always } = createLog('warn');
  await attachToConsole({
    path: guestSocket(guest),
    write: !readOnly,
    take: take ?? false,
    history,
    show: writeBytes,
    say: always,
  });
  return EXIT_CODE.ok;
}

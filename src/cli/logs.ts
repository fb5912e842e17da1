/** `volt logs`: what a guest, and Volt about it, have printed. */
import { EXIT_CODE } from '../api/index.ts';
import { checkGuestName } from '../api/guests/guest-name.ts';
import { showLog } from '../api/guests/read-log.ts';
import { writeBytes } from './output.ts';

export interface LogsFlags {
  readonly follow?: true | undefined;
  readonly lines?: number | undefined;
}

export async function logs(name: string, { follow, lines }: LogsFlags): Promise<number> {
  await showLog(checkGuestName(name), { follow: follow ?? false, lines, show: writeBytes });
  return EXIT_CODE.ok;
}

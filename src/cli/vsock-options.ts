/** `--vsock`, and its way into the section of that name of a configuration file. */
import { readWords } from '../api/index.ts';
import { dropUndefined } from './net-options.ts';

export const VSOCK_HELP =
  'sockets between guest and host: path=FILE of a Unix socket, cid=N of the guest (default: 3)';

export function parseVsock(text: string): Record<string, unknown> {
  const words = readWords('--vsock', text, ['path', 'cid']);
  return dropUndefined({
    uds_path: words.text('path', 'FILE'),
    guest_cid: words.quantity('cid', 'a number from 3 on') ?? 3,
  });
}

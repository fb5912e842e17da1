/** Opens the Unix socket of the socket device. */
import { rmSync } from 'node:fs';
import { openListeningSocket } from '../host/listening-socket.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { describeVsock } from './device.ts';
import type { VsockStart } from './serve.ts';
import type { VsockConfig } from './spec.ts';

/** A guest's connections go to paths that are up to this much longer: `_` and ten digits. */
const SUFFIX_BYTES = 11;

/** Throws VoltError 'host' when the socket cannot be created. */
export function openVsock({ guestCid, path }: VsockConfig): OpenDevice<VsockStart> {
  const listener = openListeningSocket('--vsock path=', path, SUFFIX_BYTES);
  return {
    description: describeVsock(guestCid),
    start: { guestCid, path, listener: listener.fd },
    blocks: false,
    close: () => {
      listener.close();
      rmSync(path, { force: true });
    },
  };
}

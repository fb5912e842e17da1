/** Starts passt, which does the networking of a guest without a tap, as a process of this user. */
import { createHelperSocket } from '../../ffi/socket-pair.ts';
import { VoltError } from '../../volt-error.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { describeNet } from './device.ts';
import { createPasstBuffer } from './passt-port.ts';
import type { PasstStart } from './serve-passt.ts';
import type { NetConfig } from './spec.ts';

/** What passt tells guests by DHCP. */
const PASST_MTU = 65_520;

/** Throws VoltError 'host' when passt is not installed. */
export function openPasst(config: NetConfig): OpenDevice<PasstStart> {
  const program = Bun.which('passt');
  if (program === null) {
    throw new VoltError(
      'host',
      'Cannot use --net user: the program passt is not installed (expected it on the PATH: apt-get install passt)',
    );
  }
  const [ours, theirs] = createHelperSocket();
  // It ends when its socket is closed. What it says is mostly about its log; what counts is the guest's link.
  const child = Bun.spawn([program, '--foreground', '--quiet', '--one-off', '--fd', '3'], {
    stdio: ['ignore', 'ignore', 'ignore', theirs.fd],
  });
  child.unref();
  theirs.close();
  const settings = {
    pairs: 1,
    hostMtu: PASST_MTU,
    receiveLimits: config.receiveLimits,
    transmitLimits: config.transmitLimits,
  };
  return {
    facts: describeNet({ mac: config.mac, pairs: 1, mtu: undefined, offloads: false }),
    start: { link: 'passt', fd: ours.fd, buffer: createPasstBuffer(), settings },
    blocks: false,
    close: () => {
      ours.close();
    },
  };
}

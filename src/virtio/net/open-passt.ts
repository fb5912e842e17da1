/** Starts passt, which provides user-mode networking without a tap or privileges. */
import { createHelperSocket } from '../../ffi/socket-pair.ts';
import { VoltError } from '../../volt-error.ts';
import { createHelperOutput } from '../host/helper-output.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { describeNet } from './device.ts';
import { passtArguments, type PortForward } from './forwarding.ts';
import { createPasstBuffer } from './passt-port.ts';
import type { PasstStart } from './serve-passt.ts';
import type { NetConfig } from './spec.ts';

/** MTU that passt announces to guests by DHCP. */
const PASST_MTU = 65_520;

/** Throws VoltError 'host' when passt is not installed, or when a port to be forwarded is in use. */
export function openPasst(config: NetConfig): OpenDevice<PasstStart> {
  const program = Bun.which('passt');
  if (program === null) {
    throw new VoltError(
      'host',
      'Cannot use --net user: the program passt is not installed; install it on the PATH: apt-get install passt',
    );
  }
  config.forwards.forEach(checkPort);
  const [ours, theirs] = createHelperSocket();
  const [output, stderr] = createHelperOutput();
  // With --one-off passt exits when its socket is closed.
  const argv = [
    ...[program, '--foreground', '--quiet', '--one-off', '--fd', '3'],
    ...passtArguments(config.forwards),
  ];
  const child = Bun.spawn(argv, {
    stdio: ['ignore', 'ignore', stderr.fd, theirs.fd],
  });
  child.unref();
  theirs.close();
  stderr.close();
  const settings = {
    pairs: 1,
    hostMtu: PASST_MTU,
    receiveLimits: config.receiveLimits,
    transmitLimits: config.transmitLimits,
  };
  return {
    description: describeNet({ mac: config.mac, pairs: 1, mtu: undefined, offloads: false }),
    start: { link: 'passt', fd: ours.fd, outputFd: output.fd, buffer: createPasstBuffer(), settings },
    blocks: false,
    close: () => {
      ours.close();
      output.close();
    },
  };
}

/** passt itself ends when it gets none of its ports, and then the guest is already running. */
function checkPort({ protocol, address, firstPort, lastPort }: PortForward): void {
  if (protocol === 'udp' || lastPort > firstPort) return;
  try {
    Bun.listen({ hostname: address ?? '0.0.0.0', port: firstPort, socket: { data: () => {} } }).stop(true);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new VoltError(
      'host',
      `Cannot use --net user: TCP port ${firstPort}${address === undefined ? '' : ` of ${address}`} cannot be opened (${code}); forward another port, or end the program that uses it`,
      { cause: error },
    );
  }
}

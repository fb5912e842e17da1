/** Opens a tap for a network interface. */
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import { interfaceMtu, openTap, setTapOffloads } from '../../ffi/tap.ts';
import { VoltError } from '../../volt-error.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { describeNet } from './device.ts';
import { NET_HEADER } from './regs.ts';
import type { TapStart } from './serve-tap.ts';
import type { NetConfig } from './spec.ts';

/** MTU that a driver assumes without VIRTIO_NET_F_MTU. */
const DEFAULT_MTU = 1500;

/** Throws VoltError 'host' that says what is wrong with the tap. */
export function openTapDevice(config: NetConfig, tap: string): OpenDevice<TapStart> {
  const { files, mtu } = openQueues(tap, config.queues);
  const description = describeNet({
    mac: config.mac,
    pairs: config.queues,
    mtu: mtu === DEFAULT_MTU ? undefined : mtu,
    offloads: true,
  });
  const settings = {
    pairs: config.queues,
    hostMtu: mtu,
    receiveLimits: config.receiveLimits,
    transmitLimits: config.transmitLimits,
  };
  return {
    description,
    start: { link: 'tap', fds: files.map(({ fd }) => fd), settings },
    blocks: true,
    close: () => files.forEach((file) => file.close()),
  };
}

function openQueues(name: string, queues: number): { files: OwnedFd[]; mtu: number } {
  const bad = (found: string, expected: string, cause?: unknown) =>
    new VoltError('host', `Cannot use --net tap=${name}: ${found} (expected ${expected})`, { cause });
  const kind = queues > 1 ? ' multi_queue' : '';
  const mtu = interfaceMtu(name);
  if (mtu === undefined) {
    throw bad(
      'there is no such interface',
      `one made before: ip tuntap add ${name} mode tap${kind} && ip link set ${name} up`,
    );
  }
  try {
    const files = openTap(name, queues, NET_HEADER.size);
    // Until the driver says what it takes, packets are whole.
    setTapOffloads(files[0]!.fd, 0);
    return { files, mtu };
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const inTun = error.call.startsWith('open');
    switch (error.errno) {
      case ERRNO.ENOENT:
      case ERRNO.ENODEV:
        throw bad('this host has no /dev/net/tun', 'it: modprobe tun', error);
      case ERRNO.EACCES:
      case ERRNO.EPERM:
        throw inTun
          ? bad('/dev/net/tun may not be opened by this user', 'permission to read and write it', error)
          : bad(
              'it belongs to somebody else',
              `yours: ip tuntap add ${name} mode tap${kind} user NAME`,
              error,
            );
      case ERRNO.EBUSY:
        throw bad('another program uses it', 'a tap of its own for each guest', error);
      case ERRNO.EINVAL:
        throw queues > 1
          ? bad(`it is no tap with ${queues} queues`, 'one made with multi_queue, or queues=1', error)
          : bad('it is no tap', `one made by: ip tuntap add ${name} mode tap`, error);
      case ERRNO.E2BIG:
        throw bad(`it has not ${queues} queues to give`, 'fewer queues', error);
      default:
        throw bad(error.message, 'a tap that can be opened', error);
    }
  }
}

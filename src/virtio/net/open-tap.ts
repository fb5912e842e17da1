/** Opens the queues of a tap for a network interface. */
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import { interfaceMtu, openTap, setTapOffloads } from '../../ffi/tap.ts';
import { VoltError } from '../../volt-error.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { describeNet } from './device.ts';
import { NET_HEADER } from './regs.ts';
import type { TapStart } from './serve-tap.ts';
import type { NetConfig } from './spec.ts';

/** MTU that drivers assume without VIRTIO_NET_F_MTU. */
const DEFAULT_MTU = 1500;

/** Throws VoltError 'host' when the tap cannot be used. */
export function openTapDevice(config: NetConfig, tap: string): OpenDevice<TapStart> {
  return adoptTap(config, openQueues(tap, config.queues, config.creates));
}

/** The queues of a tap, open, and its MTU. */
export interface TapFiles {
  readonly files: readonly OwnedFd[];
  readonly mtu: number;
}

/** The interface of a tap that `openQueues` has opened, here or in another process. */
export function adoptTap(config: NetConfig, { files, mtu }: TapFiles): OpenDevice<TapStart> {
  const description = describeNet({
    mac: config.mac,
    pairs: config.queues,
    mtu: config.mtu ?? (mtu === DEFAULT_MTU ? undefined : mtu),
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
    start: { link: 'tap', fds: files.map(({ fd }) => fd), settings, mmds: config.mmds },
    blocks: true,
    close: () => files.forEach((file) => file.close()),
  };
}

/** Throws VoltError 'host' when the tap cannot be used. */
export function openQueues(name: string, queues: number, creates: boolean): TapFiles {
  const bad = (found: string, advice: string, cause?: unknown) =>
    new VoltError('host', `Cannot use --net tap=${name}: ${found}; ${advice}`, { cause });
  const kind = queues > 1 ? ' multi_queue' : '';
  if (interfaceMtu(name) === undefined && !creates) {
    throw bad(
      'there is no such interface',
      `create it: ip tuntap add ${name} mode tap${kind} && ip link set ${name} up`,
    );
  }
  try {
    const files = openTap(name, queues, NET_HEADER.size);
    // Until the driver negotiates offloads, packets have complete checksums and are segmented.
    setTapOffloads(files[0]!.fd, 0);
    return { files, mtu: interfaceMtu(name) ?? DEFAULT_MTU };
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const inTun = error.call.startsWith('open');
    switch (error.errno) {
      case ERRNO.ENOENT:
      case ERRNO.ENODEV:
        throw bad('this host has no /dev/net/tun', 'load its driver: modprobe tun', error);
      case ERRNO.EACCES:
      case ERRNO.EPERM:
        throw inTun
          ? bad('this user may not open /dev/net/tun', 'grant read and write permission to it', error)
          : bad(
              'it belongs to another user',
              `create it for this user: ip tuntap add ${name} mode tap${kind} user NAME`,
              error,
            );
      case ERRNO.EBUSY:
        throw bad('another program uses it', 'give each guest a tap of its own', error);
      case ERRNO.EINVAL:
        throw queues > 1
          ? bad('it is not a multi-queue tap', 'create it with multi_queue, or use queues=1', error)
          : bad('it is not a tap', 'create one: ip tuntap add NAME mode tap', error);
      case ERRNO.E2BIG:
        throw bad(`it supports fewer than ${queues} queues`, 'use fewer queues', error);
      default:
        throw bad(error.message, 'check the interface: ip link show ' + name, error);
    }
  }
}

/** Network interfaces: their taps opened on the main thread, and the device made of them on its worker. */
import type { VirtioDevice } from '../transport/device.ts';
import { describeNet, NetDevice, type NetSettings } from './device.ts';
import { NET_HEADER } from './regs.ts';
import { EPOLL } from '../../ffi/epoll.ts';
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import { interfaceMtu, openTap, setTapOffloads } from '../../ffi/tap.ts';
import { VoltError } from '../../volt-error.ts';
import type { DeviceServices } from '../host/services.ts';
import type { NetConfig } from './spec.ts';
import { TapQueues } from './tap-queues.ts';
import type { OpenDevice } from '../host/device-set.ts';

export interface TapStart {
  readonly kind: 'tap';
  readonly fds: readonly number[];
  readonly settings: NetSettings;
}

/** What the driver takes without being told. */
const USUAL_MTU = 1500;

/** Throws VoltError 'host' that says what is wrong with the tap. */
export function openTapDevice(config: NetConfig, tap: string): OpenDevice {
  const { files, mtu } = openQueues(tap, config.queues);
  const facts = describeNet({
    mac: config.mac,
    pairs: config.queues,
    mtu: mtu === USUAL_MTU ? undefined : mtu,
    offloads: true,
  });
  const settings: NetSettings = {
    pairs: config.queues,
    hostMtu: mtu,
    receiveLimits: config.receiveLimits,
    transmitLimits: config.transmitLimits,
  };
  return {
    facts,
    start: { kind: 'tap', fds: files.map(({ fd }) => fd), settings },
    blocks: true,
    close: () => files.forEach((file) => file.close()),
  };
}

/** `tell` hears, once, that the tap is gone. */
export function createTapDevice(
  { fds, settings }: TapStart,
  services: DeviceServices,
  tell: (text: string) => void,
): VirtioDevice {
  const tap = new TapQueues(fds);
  const device = new NetDevice(
    {
      ports: tap.ports,
      setOffloads: (offloads) => tap.setOffloads(offloads),
      setActivePorts: (count) => tap.setActivePorts(count),
      now: () => performance.now(),
      after: (delayMs, handler) => services.after(delayMs, handler),
    },
    settings,
  );
  fds.forEach((fd, pair) =>
    services.watch(fd, EPOLL.in | EPOLL.out | EPOLL.edge, (events) => {
      if (events & (EPOLL.error | EPOLL.hangUp) && device.setLink(false))
        tell('its tap is gone; the guest goes on with its link down');
      if (events & EPOLL.in) device.portReadable(pair);
      if (events & EPOLL.out) device.portWritable(pair);
    }),
  );
  return device;
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

/** Network interfaces without a tap: passt speaks for the guest, as a process of this user. */
import type { VirtioDevice } from '../transport/device.ts';
import { describeNet, NetDevice, type NetSettings } from './device.ts';
import { EPOLL } from '../../ffi/epoll.ts';
import { createHelperSocket } from '../../ffi/socket-pair.ts';
import { VoltError } from '../../volt-error.ts';
import type { DeviceServices } from '../host/services.ts';
import type { NetConfig } from './spec.ts';
import { createPasstBuffer, PasstPort } from './passt-port.ts';
import type { OpenDevice } from '../host/device-set.ts';

export interface UserNetStart {
  readonly kind: 'user-net';
  readonly fd: number;
  /** What is under way between a machine and the one after its reset. */
  readonly buffer: SharedArrayBuffer;
  readonly settings: NetSettings;
}

/** What passt tells guests by DHCP. */
const PASST_MTU = 65_520;

/** Throws VoltError 'host' when passt is not installed. */
export function openUserNetDevice(config: NetConfig): OpenDevice {
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
  const settings: NetSettings = {
    pairs: 1,
    hostMtu: PASST_MTU,
    receiveLimits: config.receiveLimits,
    transmitLimits: config.transmitLimits,
  };
  return {
    facts: describeNet({ mac: config.mac, pairs: 1, mtu: undefined, offloads: false }),
    start: { kind: 'user-net', fd: ours.fd, buffer: createPasstBuffer(), settings },
    blocks: false,
    close: () => {
      ours.close();
    },
  };
}

/** `tell` hears, once, that passt has ended. */
export function createUserNetDevice(
  { fd, buffer, settings }: UserNetStart,
  services: DeviceServices,
  tell: (text: string) => void,
): VirtioDevice {
  const port = new PasstPort(fd, buffer);
  const device = new NetDevice(
    {
      ports: [port],
      setOffloads: () => {},
      setActivePorts: () => {},
      now: () => performance.now(),
      after: (delayMs, handler) => services.after(delayMs, handler),
    },
    settings,
  );
  services.watch(fd, EPOLL.in | EPOLL.out | EPOLL.edge, (events) => {
    if (events & (EPOLL.error | EPOLL.hangUp) && device.setLink(false))
      tell('passt has ended; the guest goes on with its link down');
    if (events & EPOLL.in) device.portReadable(0);
    if (port.lost && device.setLink(false))
      tell('passt sent what is no frame; the guest goes on with its link down');
    if (events & EPOLL.out && port.flush()) device.portWritable(0);
  });
  return device;
}

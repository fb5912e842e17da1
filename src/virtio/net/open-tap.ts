/** Opens the queues of a tap for a network interface. */
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import { interfaceMtu, openTap, setTapOffloads } from '../../ffi/tap.ts';
import { VoltError } from '../../volt-error.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { FEATURE } from '../transport/mmio.regs.ts';
import type { DeviceDescription } from '../transport/device.ts';
import { describeNet } from './device.ts';
import { NET_FEATURE, NET_HEADER } from './regs.ts';
import { openVhost, type OpenVhost } from './vhost/open.ts';
import type { TapStart } from './serve-tap.ts';
import type { NetConfig } from './spec.ts';

/** MTU that drivers assume without VIRTIO_NET_F_MTU. */
const DEFAULT_MTU = 1500;

/** Throws VoltError 'host' when the tap cannot be used. */
export function openTapDevice(config: NetConfig, tap: string, ramEnd: number): OpenDevice<TapStart> {
  const opened = openQueues(tap, config.queues, config.creates);
  const close = () => opened.files.forEach((file) => file.close());
  return adoptTap(config, opened, chooseVhost(config, tap, ramEnd, close));
}

/** The queues of a tap, open, and its MTU. */
export interface TapFiles {
  readonly files: readonly OwnedFd[];
  readonly mtu: number;
}

/** The kernel's back-ends of a tap, or why it has none. */
interface TapServer {
  readonly vhost?: OpenVhost | undefined;
  readonly note?: string | undefined;
}

/** The interface of a tap that `openQueues` has opened, here or in another process. */
export function adoptTap(
  config: NetConfig,
  { files, mtu }: TapFiles,
  { vhost, note }: TapServer = {},
): OpenDevice<TapStart> {
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
    servedByKernel: vhost !== undefined,
  };
  const fds = files.map(({ fd }) => fd);
  return {
    description: vhost ? restrictToVhost(description, vhost.start.features) : description,
    start: { link: 'tap', fds, settings, mmds: config.mmds, vhost: vhost?.start },
    blocks: true,
    note,
    ...(vhost ? { trackWrites: (on: boolean) => vhost.trackWrites(on) } : {}),
    close: () => {
      vhost?.close();
      files.forEach((file) => file.close());
    },
  };
}

/** Features that the kernel's back-end has a part in, and those of its virtqueues. */
const VHOST_FEATURES: readonly number[] = [NET_FEATURE.mrgRxbuf];
const VHOST_RING_FEATURES = [FEATURE.ringIndirectDesc, FEATURE.ringEventIdx, FEATURE.version1] as const;

function restrictToVhost(
  description: DeviceDescription,
  features: readonly [low: number, high: number],
): DeviceDescription {
  const has = (bit: number) => ((features[bit < 32 ? 0 : 1] >>> (bit & 31)) & 1) !== 0;
  return {
    ...description,
    features: description.features.filter((bit) => !VHOST_FEATURES.includes(bit) || has(bit)),
    ringFeatures: VHOST_RING_FEATURES.filter(has),
    servedByBackend: true,
    backendIsStateless: true,
  };
}

/**
 * The kernel's back-end where it is wanted, or where it can be had and nothing speaks against it. Throws VoltError 'host'
 * where it is wanted and cannot be had; `close` is called then.
 */
function chooseVhost(config: NetConfig, tap: string, ramEnd: number, close: () => void): TapServer {
  if (config.vhost === false) return {};
  const obstacle = obstacleOf(config);
  const found = obstacle ?? openVhost(config.queues, ramEnd);
  if (typeof found !== 'string') return { vhost: found };
  if (config.vhost) {
    close();
    const fix = 'load its driver (modprobe vhost_net) and grant access to /dev/vhost-net, or omit vhost';
    throw new VoltError(
      'host',
      `Cannot use --net tap=${tap},vhost: ${found}; ${obstacle ? 'omit one of them' : fix}`,
    );
  }
  return { note: `Volt serves its queues, not the kernel (vhost): ${found}` };
}

function obstacleOf({ mmds, receiveLimits, transmitLimits }: NetConfig): string | undefined {
  const limits = [receiveLimits, transmitLimits].flatMap(({ bandwidth, ops }) => [bandwidth, ops]);
  if (limits.some((limit) => limit !== undefined)) return 'it has rate limits (bw, iops)';
  return mmds ? 'it has the metadata service' : undefined;
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

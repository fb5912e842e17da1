/** Shared folders: a virtio file system that virtiofsd serves, by vhost-user. */
import { viewOf } from '../../binary/bytes.ts';
import { negotiate, VhostUserError, type VhostAgreement } from '../vhost-user/session.ts';
import { VhostDevice, vhostRingFeatures } from '../vhost-user/device.ts';
import type { DeviceFacts, VirtioDevice } from '../transport/device.ts';
import { refuseRequests } from './refusal.ts';
import { FS_CONFIG, FS_QUEUE } from './regs.ts';
import { DEVICE_TYPE, FEATURE } from '../transport/mmio.regs.ts';
import { EPOLL } from '../../ffi/epoll.ts';
import { OwnedFd } from '../../ffi/file.ts';
import { probeListener } from '../../ffi/unix-socket.ts';
import { connectStream } from '../../ffi/unix-stream.ts';
import type { DeviceServices } from '../host/services.ts';
import type { ShareConfig } from './spec.ts';
import { startVirtiofsd, unusable, type RunningDaemon } from './virtiofsd.ts';
import { HUNG_UP, VhostSocket } from '../vhost-user/socket.ts';
import type { MachineParts } from '../host/link.ts';
import type { OpenDevice } from '../host/device-set.ts';

export interface VhostStart {
  readonly kind: 'vhost-user';
  /** The process, for messages. */
  readonly what: string;
  readonly fd: number;
  readonly agreement: VhostAgreement;
}

/** virtiofsd has one queue of each kind. */
const QUEUES = FS_QUEUE.firstRequest + 1;
/** Linux makes requests as long as a ring takes. */
const QUEUE_SIZE = 1024;
const ANSWER_MS = 5000;
const WHAT = 'virtiofsd';

/** Throws VoltError 'usage' and 'host' that say what is wrong with the folder or the daemon. */
export function openShareDevice({ tag, source }: ShareConfig): OpenDevice {
  const daemon = 'path' in source ? startVirtiofsd(source) : connectTo(source.socket);
  const where = 'path' in source ? source.path : `socket=${source.socket}`;
  try {
    const { fd } = daemon.connection;
    const agreement = agreeWith(fd, where, daemon.lastWords);
    return {
      facts: shareFacts(tag, agreement),
      start: { kind: 'vhost-user', what: WHAT, fd, agreement },
      // Starting and stopping it waits for the daemon.
      blocks: true,
      close: () => daemon.close(),
    };
  } catch (error) {
    daemon.close();
    throw error;
  }
}

export function shareFacts(tag: string, agreement: VhostAgreement): DeviceFacts {
  const config = new Uint8Array(FS_CONFIG.size);
  config.set(Buffer.from(tag), FS_CONFIG.tag);
  viewOf(config).setUint32(FS_CONFIG.requestQueues, QUEUES - FS_QUEUE.firstRequest, true);
  return {
    type: DEVICE_TYPE.fs,
    features: [],
    ringFeatures: vhostRingFeatures(agreement),
    queueSizes: Array.from({ length: QUEUES }, () => QUEUE_SIZE),
    config,
    servedElsewhere: true,
  };
}

export function createVhostDevice(
  { fd, what, agreement }: VhostStart,
  services: DeviceServices,
  { ram, queueFds, interruptFd }: MachineParts,
): VirtioDevice {
  const regions = ram.flatMap(({ address, bytes, fd }) =>
    fd === undefined ? [] : [{ address, bytes, fileOffset: 0, fd }],
  );
  const facts = { what, agreement, regions, kickFds: queueFds, callFd: interruptFd };
  const socket = new VhostSocket(fd);
  const device = new VhostDevice(facts, {
    send: (message, fds) => socket.send(message, fds),
    receive: (target) => socket.receive(target),
    allow: (ms) => socket.allow(ms),
    sever: () => socket.sever(),
    refuse: refuseRequests,
    watchKicks: () =>
      queueFds.forEach((kick, queue) =>
        services.watch(kick, EPOLL.in | EPOLL.edge, () => device.kick(queue)),
      ),
  });
  services.watch(fd, EPOLL.in | EPOLL.edge, (events) =>
    device.disconnected(events & (EPOLL.hangUp | EPOLL.error) ? HUNG_UP : 'spoke without being asked'),
  );
  return device;
}

function connectTo(path: string): RunningDaemon {
  const fd = connectStream(path);
  if (fd >= 0) {
    const connection = new OwnedFd(fd);
    return { connection, lastWords: () => '', close: () => connection.close() };
  }
  const found = NO_CONNECTION[probeListener(path)] ?? 'it takes no connection';
  throw unusable(`socket=${path}`, found, 'the socket of a virtiofsd that runs and has no guest yet');
}

const NO_CONNECTION: Readonly<Record<string, string>> = {
  missing: 'there is no such socket',
  dead: 'nobody listens there any more',
  forbidden: 'permission denied',
  other: 'it is no socket that listens',
};

function agreeWith(fd: number, where: string, lastWords: () => string): VhostAgreement {
  const expected = 'a virtiofsd that serves it; the one of QEMU does so for root alone';
  let agreement: VhostAgreement;
  try {
    const socket = new VhostSocket(fd);
    socket.allow(ANSWER_MS);
    agreement = negotiate(socket);
  } catch (error) {
    if (!(error instanceof VhostUserError)) throw error;
    const words = lastWords();
    throw unusable(where, `${WHAT} ${error.message}${words === '' ? '' : `, after "${words}"`}`, expected);
  }
  if (agreement.queues !== undefined && agreement.queues < QUEUES)
    throw unusable(where, `it has ${agreement.queues} queues`, `at least ${QUEUES}`);
  if (!vhostRingFeatures(agreement).includes(FEATURE.version1))
    throw unusable(where, 'it has no VIRTIO_F_VERSION_1', expected);
  return agreement;
}

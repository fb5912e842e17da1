/** Starts qemu-storage-daemon for an image, or connects to a running back-end, and negotiates with it. */
import { realpathSync, statSync } from 'node:fs';
import { viewOf } from '../../../binary/bytes.ts';
import { createSharedMemory } from '../../../ffi/shared-memory.ts';
import { probeListener } from '../../../ffi/unix-socket.ts';
import { closeStream, connectStream } from '../../../ffi/unix-stream.ts';
import { VoltError } from '../../../volt-error.ts';
import { quoteLastLine } from '../../host/helper-output.ts';
import { imageFileError } from '../../host/image-files.ts';
import type { OpenDevice } from '../../host/open-device.ts';
import { FEATURE } from '../../transport/mmio.regs.ts';
import { vhostFeatures, vhostRingFeatures } from '../../vhost-user/device.ts';
import { inflightQueueBytes } from '../../vhost-user/inflight.ts';
import {
  acceptsInflight,
  finishNegotiation,
  negotiate,
  readConfig,
  requestFeatures,
  VhostUserError,
  type InflightRegion,
  type VhostAgreement,
  type VhostWishes,
} from '../../vhost-user/session.ts';
import { VhostSocket } from '../../vhost-user/socket.ts';
import { writeLogBytes } from '../../vhost-user/write-log.ts';
import { BLOCK_CONFIG, BLOCK_FEATURE } from '../regs.ts';
import type { BlockConfig } from '../spec.ts';
import { BACK_END_QUEUE_SIZE, describeBackEnd } from './description.ts';
import { daemonArguments, isNbdUri, parseNbdUri, shortenMessage, type ImageSource } from './image-source.ts';
import { CONNECTION_WORD, type BackEndStart } from './serve.ts';
import { DAEMON, LISTENER_FD, startStorageDaemon } from './storage-daemon.ts';

/** A daemon may have to connect to a server first. */
const START_MS = 30_000;
const ANSWER_MS = 5000;
const CAPACITY_BYTES = 8;
const ADVICE = 'check the image: qemu-img info';
/** Where distributions install the daemon outside the PATH. */
const INSTALL_PATHS = ['/usr/libexec/qemu-storage-daemon', '/usr/lib/qemu/qemu-storage-daemon'];

/** A connection to a back-end that is ready, and what is needed for others. */
interface ReadyBackEnd {
  readonly name: string;
  readonly where: string;
  readonly fd: number;
  /** The request for features is sent already. */
  readonly isAsked: boolean;
  readonly source: BackEndStart['source'];
  /** Its stderr, quoted. */
  lastLine(): string;
  /** `closed`: the first connections, which are closed already. */
  close(fd: number, closed: number): void;
}

interface Negotiated {
  readonly agreement: VhostAgreement;
  readonly config: Uint8Array;
  readonly wishes: VhostWishes;
}

/** `ramEnd`: where guest RAM ends. Throws VoltError 'image' and 'host' where the disk cannot be used. */
export function openBackEnd(config: BlockConfig, ramEnd: number): OpenDevice<BackEndStart> {
  checkSettings(config);
  using stack = new DisposableStack();
  const inflight = createInflight(config.queues, stack);
  const open = () => (config.backEnd!.kind === 'socket' ? connectBackEnd(config.path) : startDaemon(config));
  let backEnd = open();
  const words = new Int32Array(new SharedArrayBuffer(4 * CONNECTION_WORD.size));
  words[CONNECTION_WORD.fd] = backEnd.fd;
  const close = () => backEnd.close(words[CONNECTION_WORD.fd]!, words[CONNECTION_WORD.spare]!);
  stack.defer(close);
  let negotiated = tryNegotiation(backEnd, inflight);
  if (!negotiated) {
    // It did not take what it does not offer.
    backEnd.close(backEnd.fd, 0);
    backEnd = open();
    words[CONNECTION_WORD.fd] = backEnd.fd;
    negotiated = negotiateWith(backEnd, { ...WISHES, inflight: 'offered' });
  }
  const { agreement, config: space, wishes } = negotiated;
  checkBackEnd(config, agreement, space);
  const log = agreement.logs ? createLog(ramEnd, stack) : undefined;
  const start: BackEndStart = {
    link: 'back-end',
    name: backEnd.name,
    lostMs: config.timeoutMs!,
    wishes,
    agreement,
    capacity: space.slice(BLOCK_CONFIG.capacity, BLOCK_CONFIG.capacity + CAPACITY_BYTES),
    shared: { inflight: agreement.tracksInflight ? inflight : undefined, log },
    connection: words.buffer as SharedArrayBuffer,
    source: backEnd.source,
  };
  const files = stack.move();
  return {
    description: describeBackEnd(agreement, space, {
      queues: config.queues,
      flush: config.cache === 'Writeback',
    }),
    start,
    // Activation and reset wait for replies.
    blocks: true,
    close: () => files.dispose(),
  };
}

const WISHES = { config: true, log: true } as const;

/** undefined: the back-end has no inflight tracking, which it did not offer; negotiate again without. */
function tryNegotiation(backEnd: ReadyBackEnd, inflight: InflightRegion): Negotiated | undefined {
  const negotiated = negotiateWith(backEnd, { ...WISHES, inflight: 'always' });
  const socket = new VhostSocket(backEnd.fd);
  socket.setTimeLimit(ANSWER_MS);
  if (!negotiated.agreement.tracksInflight) return negotiated;
  return acceptsInflight(socket, negotiated.agreement, inflight) ? negotiated : undefined;
}

function negotiateWith(backEnd: ReadyBackEnd, wishes: VhostWishes): Negotiated {
  const socket = new VhostSocket(backEnd.fd);
  const advice = 'use a vhost-user back-end for virtio-blk, such as qemu-storage-daemon';
  try {
    socket.setTimeLimit(ANSWER_MS);
    const agreement = (backEnd.isAsked ? finishNegotiation : negotiate)(socket, wishes);
    if (!agreement.hasConfig)
      throw new VhostUserError('does not tell its configuration (VHOST_USER_PROTOCOL_F_CONFIG)');
    return { agreement, config: readConfig(socket, BLOCK_CONFIG.size), wishes };
  } catch (error) {
    if (!(error instanceof VhostUserError)) throw error;
    throw imageFileError(backEnd.where, `${backEnd.name} ${error.message}${backEnd.lastLine()}`, {
      fix: advice,
    });
  }
}

function checkBackEnd(config: BlockConfig, agreement: VhostAgreement, space: Uint8Array): void {
  const { path, queues, readOnly } = config;
  const bad = (found: string, fix: string) => imageFileError(path, found, { fix });
  if (!vhostRingFeatures(agreement).includes(FEATURE.version1))
    throw bad('its back-end does not offer VIRTIO_F_VERSION_1', 'use a newer one');
  const hasMany = vhostFeatures(agreement, [BLOCK_FEATURE.multiQueue]).length > 0;
  const most = Math.min(
    agreement.queues ?? 1,
    hasMany ? viewOf(space).getUint16(BLOCK_CONFIG.numQueues, true) : 1,
  );
  if (queues > Math.max(1, most)) throw bad(`its back-end has ${most} queues`, `use queues=${most}`);
  if (readOnly && vhostFeatures(agreement, [BLOCK_FEATURE.readOnly]).length === 0)
    throw bad('its back-end lets the guest write', 'start it read-only, or omit readonly');
}

/** Refuses settings that a back-end does not have. */
function checkSettings(config: BlockConfig): void {
  const { path, overlay, cache, direct, limits, engine, backEnd } = config;
  const bad = (setting: string, fix: string) =>
    imageFileError(path, `${setting} is not for a disk that another process serves`, { fix });
  if (overlay !== undefined)
    throw bad(
      'overlay',
      'omit it; a qcow2 image over another: qemu-img create -f qcow2 -b FILE -F FORMAT NEW',
    );
  if (backEnd!.kind !== 'socket') return;
  if (direct || cache === 'Writethrough' || engine !== undefined || limits.bandwidth || limits.ops)
    throw bad(
      'direct, cache=writethrough, engine, bw or iops',
      'set them where the back-end of this socket is started',
    );
}

function createInflight(queues: number, stack: DisposableStack): InflightRegion {
  const bytes = queues * inflightQueueBytes(BACK_END_QUEUE_SIZE);
  const memory = stack.use(createSharedMemory('volt-inflight', bytes, false));
  return { fd: memory.fd, bytes, queues, queueSize: BACK_END_QUEUE_SIZE };
}

function createLog(ramEnd: number, stack: DisposableStack): { fd: number; bytes: number } {
  const bytes = writeLogBytes(ramEnd);
  return { fd: stack.use(createSharedMemory('volt-write-log', bytes, false)).fd, bytes };
}

function connectBackEnd(path: string): ReadyBackEnd {
  const fd = connectStream(path);
  if (fd < 0) {
    const found = NO_CONNECTION[probeListener(path)] ?? 'it accepts no connection';
    throw imageFileError(path, found, { fix: 'start its vhost-user back-end first' });
  }
  return {
    name: 'its back-end',
    where: path,
    fd,
    isAsked: false,
    source: { socket: path },
    lastLine: () => '',
    close: (current) => void (current >= 0 && closeStream(current)),
  };
}

const NO_CONNECTION: Readonly<Record<string, string>> = {
  missing: 'there is no such socket',
  dead: 'no process listens on it any more',
  forbidden: 'permission denied',
  other: 'it is not a listening socket',
};

function startDaemon(config: BlockConfig): ReadyBackEnd {
  const { path } = config;
  const program = Bun.which(DAEMON) ?? INSTALL_PATHS.find((each) => Bun.which(each) !== null);
  if (program === undefined)
    throw imageFileError(path, `the program ${DAEMON}, which serves such disks, is not installed`, {
      fix: 'install it (apt-get install qemu-system-common, or qemu-storage-daemon where that is a package), or convert the image: qemu-img convert -O raw',
    });
  const daemon = startStorageDaemon(program, daemonArguments(sourceOf(config)));
  const fds = daemon.connections.map(({ fd }) => fd);
  const socket = new VhostSocket(fds[0]!);
  socket.setTimeLimit(ANSWER_MS);
  requestFeatures(socket);
  if (!daemon.waitReady(START_MS)) {
    const line = quoteLastLine(daemon.output.fd, shortenMessage);
    daemon.close(0);
    throw imageFileError(path, `${DAEMON} does not start${line}`, { fix: ADVICE });
  }
  return {
    name: DAEMON,
    where: path,
    fd: fds[0]!,
    isAsked: true,
    source: { spares: fds, controlFd: daemon.control.fd, outputFd: daemon.output.fd },
    lastLine: () => quoteLastLine(daemon.output.fd, shortenMessage),
    close: (_, closed) => daemon.close(closed),
  };
}

function sourceOf(config: BlockConfig): ImageSource {
  const { path, backEnd, readOnly, direct, cache, engine, queues, limits } = config;
  if (backEnd?.kind !== 'image') throw new VoltError('internal', 'Cannot start a daemon: it is no image');
  const { format, secret, monitor } = backEnd;
  return {
    ...{ format, secret, monitor, readOnly, direct, engine, queues, limits },
    unsafe: cache === 'Unsafe',
    writeThrough: cache === 'Writethrough',
    listenerFd: LISTENER_FD,
    at: isNbdUri(path) ? { nbd: nbdServerOf(path) } : fileOf(path),
  };
}

function nbdServerOf(path: string) {
  const server = parseNbdUri(path);
  if (typeof server !== 'string') return server;
  throw imageFileError(path, server, {
    expected: 'nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH',
  });
}

/** The file as Volt sees it, which the daemon opens by that name. */
function fileOf(path: string) {
  try {
    const real = realpathSync(path);
    const status = statSync(real);
    if (!status.isFile() && !status.isBlockDevice())
      throw imageFileError(path, 'it is neither a file nor a block device', { expected: 'a disk image' });
    return { path: real, isBlockDevice: status.isBlockDevice() };
  } catch (error) {
    if (error instanceof VoltError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const found = code === 'EACCES' ? 'permission denied' : 'there is no such file';
    throw imageFileError(path, found, { expected: 'a file that you may read' });
  }
}

/** Serves a disk by a vhost-user back-end, which it finds again when it is lost. */
import { writeAllAt } from '../../../ffi/block-file.ts';
import { EPOLL, signalEventFd } from '../../../ffi/epoll.ts';
import { readAt } from '../../../ffi/file.ts';
import { waitForSocket } from '../../../ffi/socket-fds.ts';
import { closeStream, connectStream, sendBytes } from '../../../ffi/unix-stream.ts';
import { quoteLastLine } from '../../host/helper-output.ts';
import type { MappedRegion, ServeContext } from '../../host/serve-device.ts';
import type { DeviceContext, VirtioDevice } from '../../transport/device.ts';
import { emptyInflight, headsInFlight, inflightQueueBytes } from '../../vhost-user/inflight.ts';
import type { VhostAgreement, VhostRegions, VhostWishes } from '../../vhost-user/session.ts';
import { HUNG_UP, VhostSocket } from '../../vhost-user/socket.ts';
import { markLoggedPages } from '../../vhost-user/write-log.ts';
import { BackEndDevice } from './device.ts';
import { shortenMessage } from './image-source.ts';
import { refuseRequests } from './refusal.ts';

/** Asks the shell of storage-daemon.ts for another daemon. */
export const START_LINE = Uint8Array.of(0x0a);

/** Words that outlive a guest's reset: the connection's descriptor or -1, and how many of `spares` are used up. */
export const CONNECTION_WORD = { fd: 0, spare: 1, size: 2 } as const;

export interface BackEndStart {
  readonly link: 'back-end';
  /** Name of the back-end in messages. */
  readonly name: string;
  readonly wishes: VhostWishes;
  readonly lostMs: number;
  readonly agreement: VhostAgreement;
  readonly capacity: Uint8Array;
  readonly shared: VhostRegions;
  /** By CONNECTION_WORD. */
  readonly connection: SharedArrayBuffer;
  /** Where other connections come from. */
  readonly source:
    | { readonly socket: string }
    | {
        /** Connections to a daemon that Volt starts again by START_LINE to `controlFd`. */
        readonly spares: readonly number[];
        readonly controlFd: number;
        /** The daemon's stderr. */
        readonly outputFd: number;
      };
}

export function serveBackEnd(start: BackEndStart, context: ServeContext): VirtioDevice {
  const { events, ram, queueFds, callFds, report } = context;
  const { source, shared } = start;
  const words = new Int32Array(start.connection);
  const W = CONNECTION_WORD;
  const lastLine = () => ('outputFd' in source ? quoteLastLine(source.outputFd, shortenMessage) : '');
  const regions = ram.flatMap(({ address, bytes, fd }) =>
    fd === undefined ? [] : [{ address, bytes, fileOffset: 0, fd }],
  );
  let socket = new VhostSocket(words[W.fd]!);
  const idle = new Int32Array(new SharedArrayBuffer(4));
  const connected = words[W.fd]! >= 0;
  const watch = (fd: number) =>
    events.watch(fd, EPOLL.in | EPOLL.edge, (ready) => {
      const closed = (ready & (EPOLL.hangUp | EPOLL.error)) !== 0;
      const reason = closed ? HUNG_UP : 'sent a message that was not requested';
      device.linkReady(closed, reason + (closed ? lastLine() : ''));
    });
  if (connected) watch(words[W.fd]!);
  const device: BackEndDevice = new BackEndDevice(
    { ...start, regions, kickFds: queueFds, callFds },
    {
      send: (message, fds) => socket.send(message, fds),
      receive: (target) => socket.receive(target),
      setTimeLimit: (ms) => socket.setTimeLimit(ms),
      connect() {
        const fd = 'socket' in source ? connectStream(source.socket) : (source.spares[words[W.spare]!] ?? -1);
        if (fd < 0) return false;
        words[W.fd] = fd;
        socket = new VhostSocket(fd);
        watch(fd);
        return true;
      },
      restart() {
        if ('controlFd' in source && words[W.spare]! < source.spares.length)
          sendBytes(source.controlFd, START_LINE);
      },
      disconnect() {
        const fd = words[W.fd]!;
        if (fd < 0) return;
        events.unwatch(fd);
        closeStream(fd);
        words[W.fd] = -1;
        if ('spares' in source) words[W.spare]!++;
      },
      waitReadable: (ms) => waitForSocket(words[W.fd]!, false, Math.max(0, ms)),
      after: (delayMs, handler) => events.after(delayMs, handler),
      sleep: (ms) => void Atomics.wait(idle, 0, 0, ms),
      now: () => performance.now(),
      signal: signalEventFd,
      watchNotifications(on) {
        queueFds.forEach((fd, queue) => {
          if (on) events.watch(fd, EPOLL.in | EPOLL.edge, () => device.processQueue(queue));
          else events.unwatch(fd);
        });
      },
      refuseRequests,
      takenHeads: (queue, usedIndex) => readTaken(shared, queue, usedIndex),
      clearInflight(usedIndexes) {
        const { inflight } = shared;
        if (inflight) writeAllAt(inflight.fd, emptyInflight(inflight.queueSize, usedIndexes), 0);
      },
      collectWrites: (device) => collectWrites(device, ram, shared),
      report,
    },
    connected,
  );
  return device;
}

function readTaken({ inflight }: VhostRegions, queue: number, usedIndex: number): number[] | undefined {
  if (!inflight) return undefined;
  const part = new Uint8Array(inflightQueueBytes(inflight.queueSize));
  readAt(inflight.fd, part, queue * part.length);
  return headsInFlight(part, inflight.queueSize, usedIndex);
}

/** The back-end does not run meanwhile. */
function collectWrites(
  { ram }: DeviceContext,
  regions: readonly MappedRegion[],
  { log }: VhostRegions,
): void {
  if (ram.isTracking && !log) {
    for (const { address, bytes } of regions) ram.markWritten(address, bytes);
  }
  if (!log) return;
  const bits = new Uint8Array(log.bytes);
  readAt(log.fd, bits, 0);
  fillZeroes(log.fd, log.bytes);
  if (ram.isTracking) markLoggedPages(bits, ram);
}

function fillZeroes(fd: number, bytes: number): void {
  // Memory of which all pages were allocated by the zeroes before: it fails only where a size is wrong.
  writeAllAt(fd, new Uint8Array(bytes), 0);
}

/** Starts virtiofsd for a shared folder, or connects to a running one, and negotiates with it. */
import { OwnedFd } from '../../ffi/file.ts';
import { probeListener } from '../../ffi/unix-socket.ts';
import { connectStream } from '../../ffi/unix-stream.ts';
import { quoteLastLine } from '../host/helper-output.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { FEATURE } from '../transport/mmio.regs.ts';
import { vhostRingFeatures } from '../vhost-user/device.ts';
import { negotiate, VhostUserError, type VhostAgreement } from '../vhost-user/session.ts';
import { VhostSocket } from '../vhost-user/socket.ts';
import { SHARE_QUEUES, describeShare } from './description.ts';
import type { ShareStart } from './serve.ts';
import type { ShareConfig } from './spec.ts';
import { startVirtiofsd, shareError, type RunningDaemon } from './virtiofsd.ts';

const ANSWER_MS = 5000;
const WHAT = 'virtiofsd';

/** Throws VoltError 'usage' for a folder, and 'host' for a daemon, that cannot be used. */
export function openShare({ tag, source }: ShareConfig): OpenDevice<ShareStart> {
  const daemon = 'path' in source ? startVirtiofsd(source) : connectToDaemon(source.socket);
  const where = 'path' in source ? source.path : `socket=${source.socket}`;
  try {
    const { fd } = daemon.connection;
    const outputFd = daemon.output?.fd;
    const agreement = negotiateWith(fd, where, outputFd);
    return {
      description: describeShare(tag, agreement),
      start: { what: WHAT, fd, outputFd, agreement },
      // Activation and reset wait for the daemon's replies.
      blocks: true,
      close: () => daemon.close(),
    };
  } catch (error) {
    daemon.close();
    throw error;
  }
}

function connectToDaemon(path: string): RunningDaemon {
  const fd = connectStream(path);
  if (fd >= 0) {
    const connection = new OwnedFd(fd);
    return { connection, output: undefined, close: () => connection.close() };
  }
  const found = NO_CONNECTION[probeListener(path)] ?? 'it accepts no connection';
  throw shareError(`socket=${path}`, found, 'start virtiofsd there first; each serves one guest');
}

const NO_CONNECTION: Readonly<Record<string, string>> = {
  missing: 'there is no such socket',
  dead: 'no process listens on it any more',
  forbidden: 'permission denied',
  other: 'it is not a listening socket',
};

function negotiateWith(fd: number, where: string, outputFd: number | undefined): VhostAgreement {
  const advice = 'use a virtiofsd that supports it; the one of QEMU requires root';
  let agreement: VhostAgreement;
  try {
    const socket = new VhostSocket(fd);
    socket.setTimeLimit(ANSWER_MS);
    agreement = negotiate(socket);
  } catch (error) {
    if (!(error instanceof VhostUserError)) throw error;
    const lastLine = outputFd === undefined ? '' : quoteLastLine(outputFd);
    throw shareError(where, `${WHAT} ${error.message}${lastLine}`, advice);
  }
  if (agreement.queues !== undefined && agreement.queues < SHARE_QUEUES)
    throw shareError(
      where,
      `${WHAT} has ${agreement.queues} queues`,
      `use one with at least ${SHARE_QUEUES}`,
    );
  if (!vhostRingFeatures(agreement).includes(FEATURE.version1))
    throw shareError(where, `${WHAT} does not offer VIRTIO_F_VERSION_1`, advice);
  return agreement;
}

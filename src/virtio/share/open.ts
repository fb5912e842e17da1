/** Starts virtiofsd for a shared folder, or connects to one that runs, and negotiates with it. */
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
import { startVirtiofsd, unusable, type RunningDaemon } from './virtiofsd.ts';

const ANSWER_MS = 5000;
const WHAT = 'virtiofsd';

/** Throws VoltError 'usage' and 'host' that say what is wrong with the folder or the daemon. */
export function openShare({ tag, source }: ShareConfig): OpenDevice<ShareStart> {
  const daemon = 'path' in source ? startVirtiofsd(source) : connectTo(source.socket);
  const where = 'path' in source ? source.path : `socket=${source.socket}`;
  try {
    const { fd } = daemon.connection;
    const outputFd = daemon.output?.fd;
    const agreement = agreeWith(fd, where, outputFd);
    return {
      description: describeShare(tag, agreement),
      start: { what: WHAT, fd, outputFd, agreement },
      // Starting and stopping it waits for the daemon.
      blocks: true,
      close: () => daemon.close(),
    };
  } catch (error) {
    daemon.close();
    throw error;
  }
}

function connectTo(path: string): RunningDaemon {
  const fd = connectStream(path);
  if (fd >= 0) {
    const connection = new OwnedFd(fd);
    return { connection, output: undefined, close: () => connection.close() };
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

function agreeWith(fd: number, where: string, outputFd: number | undefined): VhostAgreement {
  const expected = 'a virtiofsd that serves it; the one of QEMU does so for root alone';
  let agreement: VhostAgreement;
  try {
    const socket = new VhostSocket(fd);
    socket.setTimeLimit(ANSWER_MS);
    agreement = negotiate(socket);
  } catch (error) {
    if (!(error instanceof VhostUserError)) throw error;
    const lastLine = outputFd === undefined ? '' : quoteLastLine(outputFd);
    throw unusable(where, `${WHAT} ${error.message}${lastLine}`, expected);
  }
  if (agreement.queues !== undefined && agreement.queues < SHARE_QUEUES)
    throw unusable(where, `it has ${agreement.queues} queues`, `at least ${SHARE_QUEUES}`);
  if (!vhostRingFeatures(agreement).includes(FEATURE.version1))
    throw unusable(where, 'it has no VIRTIO_F_VERSION_1', expected);
  return agreement;
}

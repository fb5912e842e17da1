/** Serves a shared folder: virtiofsd reads and writes the rings itself, by vhost-user. */
import { EPOLL } from '../../ffi/epoll.ts';
import { quoteLastLine } from '../host/helper-output.ts';
import type { ServeContext } from '../host/serve-device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { VhostDevice } from '../vhost-user/device.ts';
import type { VhostAgreement } from '../vhost-user/session.ts';
import { HUNG_UP, VhostSocket } from '../vhost-user/socket.ts';
import { refuseRequests } from './refusal.ts';

export interface ShareStart {
  /** The process, for messages. */
  readonly what: string;
  readonly fd: number;
  /** Its stderr, if Volt started it. */
  readonly outputFd: number | undefined;
  readonly agreement: VhostAgreement;
}

export function serveShare(
  { fd, outputFd, what, agreement }: ShareStart,
  { events, ram, queueFds, interruptFd }: ServeContext,
): VirtioDevice {
  const regions = ram.flatMap(({ address, bytes, fd }) =>
    fd === undefined ? [] : [{ address, bytes, fileOffset: 0, fd }],
  );
  const options = { name: what, agreement, regions, kickFds: queueFds, callFd: interruptFd };
  const socket = new VhostSocket(fd);
  const device = new VhostDevice(options, {
    send: (message, fds) => socket.send(message, fds),
    receive: (target) => socket.receive(target),
    setTimeLimit: (ms) => socket.setTimeLimit(ms),
    shutDown: () => socket.shutDown(),
    refuseRequests,
    watchNotifications: () =>
      queueFds.forEach((kick, queue) =>
        events.watch(kick, EPOLL.in | EPOLL.edge, () => device.processQueue(queue)),
      ),
  });
  events.watch(fd, EPOLL.in | EPOLL.edge, (ready) => {
    const reason = ready & (EPOLL.hangUp | EPOLL.error) ? HUNG_UP : 'spoke without being asked';
    device.disconnected(outputFd === undefined ? reason : reason + quoteLastLine(outputFd));
  });
  return device;
}

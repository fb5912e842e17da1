/** Serves a shared folder: virtiofsd processes the virtqueues itself, by vhost-user. */
import { EPOLL } from '../../ffi/epoll.ts';
import { quoteLastLine } from '../host/helper-output.ts';
import type { ServeContext } from '../host/serve-device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { VhostDevice } from '../vhost-user/device.ts';
import type { VhostAgreement } from '../vhost-user/session.ts';
import { HUNG_UP, VhostSocket } from '../vhost-user/socket.ts';
import { refuseRequests } from './refusal.ts';

export interface ShareStart {
  /** Name of the process in messages. */
  readonly what: string;
  readonly fd: number;
  /** The process's stderr, if Volt started it. */
  readonly outputFd: number | undefined;
  readonly agreement: VhostAgreement;
}

export function serveShare(
  { fd, outputFd, what, agreement }: ShareStart,
  { events, ram, queueFds, callFds }: ServeContext,
): VirtioDevice {
  const regions = ram.flatMap(({ address, bytes, fd }) =>
    fd === undefined ? [] : [{ address, bytes, fileOffset: 0, fd }],
  );
  const options = { name: what, agreement, regions, kickFds: queueFds, callFds };
  const socket = new VhostSocket(fd);
  const device = new VhostDevice(options, {
    send: (message, fds) => socket.send(message, fds),
    receive: (target) => socket.receive(target),
    setTimeLimit: (ms) => socket.setTimeLimit(ms),
    shutDown: () => socket.shutDown(),
    refuseRequests,
    watchNotifications: () =>
      queueFds.forEach((queueFd, queue) =>
        events.watch(queueFd, EPOLL.in | EPOLL.edge, () => device.processQueue(queue)),
      ),
  });
  events.watch(fd, EPOLL.in | EPOLL.edge, (ready) => {
    const reason = ready & (EPOLL.hangUp | EPOLL.error) ? HUNG_UP : 'sent a message that was not requested';
    device.disconnected(outputFd === undefined ? reason : reason + quoteLastLine(outputFd));
  });
  return device;
}

/** Opens the sockets and files of the virtio console's ports. */
import { rmSync } from 'node:fs';
import { openForAppend } from '../../ffi/append-file.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import { openListeningSocket } from '../host/listening-socket.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { describeConsole } from './device.ts';
import type { ConsolePortStart } from './ports.ts';
import type { ConsoleStart } from './serve.ts';
import type { ConsoleDeviceConfig, ConsolePortConfig } from './spec.ts';

/** Throws VoltError 'host' when a socket or file cannot be created; the others are then removed again. */
export function openConsole({ ports }: ConsoleDeviceConfig): OpenDevice<ConsoleStart> {
  using stack = new DisposableStack();
  const starts = ports.map((port): ConsolePortStart => {
    const file = stack.adopt(openPort(port), (each) => each.close());
    if (port.socket !== undefined) stack.defer(() => rmSync(port.socket!, { force: true }));
    return { fd: file.fd, kind: port.socket === undefined ? 'file' : 'socket' };
  });
  const kept = stack.move();
  return {
    description: describeConsole(ports.length),
    start: {
      portInfo: ports.map(({ name, tty }) => ({ name, console: tty })),
      ports: starts,
    },
    blocks: false,
    close: () => kept.dispose(),
  };
}

function openPort({ socket, file }: ConsolePortConfig): OwnedFd {
  return socket === undefined
    ? openForAppend('--virtio-console file=', file!)
    : openListeningSocket('--virtio-console socket=', socket);
}

/** Opens the sockets and files of the virtio console's ports. */
import { rmSync } from 'node:fs';
import { SyscallError } from '../../ffi/errno.ts';
import { OPEN, openFile, type OwnedFd } from '../../ffi/file.ts';
import { VoltError } from '../../volt-error.ts';
import { openListeningSocket } from '../host/listening-socket.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { describeConsole } from './device.ts';
import type { ConsolePortStart } from './ports.ts';
import type { ConsoleStart } from './serve.ts';
import type { ConsoleDeviceConfig, ConsolePortConfig } from './spec.ts';

/** Throws VoltError 'host' for a socket or file that cannot be made; nothing is left behind then. */
export function openConsole({ ports }: ConsoleDeviceConfig): OpenDevice<ConsoleStart> {
  using stack = new DisposableStack();
  const starts = ports.map((port): ConsolePortStart => {
    const file = stack.adopt(openPort(port), (each) => each.close());
    if (port.socket !== undefined) stack.defer(() => rmSync(port.socket!, { force: true }));
    return { fd: file.fd, kind: port.socket === undefined ? 'file' : 'socket' };
  });
  const kept = stack.move();
  return {
    facts: describeConsole(ports.length),
    start: {
      facts: ports.map(({ name, tty }) => ({ name, console: tty })),
      ports: starts,
    },
    blocks: false,
    close: () => kept.dispose(),
  };
}

function openPort({ socket, file }: ConsolePortConfig): OwnedFd {
  if (socket !== undefined) return openListeningSocket('--virtio-console socket=', socket);
  try {
    return openFile(file!, OPEN.writeOnly | OPEN.create | OPEN.append | OPEN.nonBlocking);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new VoltError(
      'host',
      `Cannot use --virtio-console file=${file}: ${error.message} (expected a file that you may write)`,
      { cause: error },
    );
  }
}

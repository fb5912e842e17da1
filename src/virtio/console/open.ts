/** The virtio console: its sockets and files opened on the main thread, and the device on its worker. */
import { rmSync } from 'node:fs';
import { ConsoleDevice, describeConsole, type ConsolePort } from './device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { SyscallError } from '../../ffi/errno.ts';
import { OPEN, openFile, type OwnedFd } from '../../ffi/file.ts';
import { VoltError } from '../../volt-error.ts';
import type { ConsoleDeviceConfig, ConsolePortConfig } from './spec.ts';
import { ConsolePorts, type ConsolePortStart } from './ports.ts';
import type { DeviceServices } from '../host/services.ts';
import { openListeningSocket } from '../host/listening-socket.ts';
import type { OpenDevice } from '../host/device-set.ts';

export interface ConsoleStart {
  readonly kind: 'console';
  readonly facts: readonly ConsolePort[];
  readonly ports: readonly ConsolePortStart[];
}

/** Throws VoltError 'host' for a socket or file that cannot be made; nothing is left behind then. */
export function openConsoleDevice({ ports }: ConsoleDeviceConfig): OpenDevice {
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
      kind: 'console',
      facts: ports.map(({ name, tty }) => ({ name, console: tty })),
      ports: starts,
    },
    blocks: false,
    close: () => kept.dispose(),
  };
}

export function createConsoleDevice({ facts, ports }: ConsoleStart, services: DeviceServices): VirtioDevice {
  const host = new ConsolePorts(ports, services);
  const device = new ConsoleDevice(facts, host);
  host.start((port) => device.portReady(port));
  services.atEnd(() => host.hangUp());
  return device;
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

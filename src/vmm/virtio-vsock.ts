/** The socket device: its Unix socket made on the main thread, and the device on its worker. */
import { rmSync } from 'node:fs';
import type { VirtioDevice } from '../devices/virtio/device.ts';
import { describeVsock, VsockDevice } from '../devices/virtio/vsock.ts';
import { SyscallError } from '../ffi/errno.ts';
import type { OwnedFd } from '../ffi/file.ts';
import { MAX_SOCKET_PATH_BYTES, probeListener, type ListenerState } from '../ffi/unix-socket.ts';
import { listenAt } from '../ffi/unix-stream.ts';
import { VoltError } from '../volt-error.ts';
import type { DeviceServices } from './device-services.ts';
import type { OpenDevice } from './virtio-machine.ts';
import type { VsockConfig } from './vsock-config.ts';
import { VsockStreams } from './vsock-streams.ts';

export interface VsockStart {
  readonly kind: 'vsock';
  readonly guestCid: number;
  readonly path: string;
  readonly listener: number;
}

/** The guest connects to sockets whose names are this much longer: `_` and ten digits. */
const SUFFIX_BYTES = 11;

/** Throws VoltError 'host' when the socket cannot be made. */
export function openVsockDevice({ guestCid, path }: VsockConfig): OpenDevice {
  const listener = listen(path);
  return {
    facts: describeVsock(guestCid),
    start: { kind: 'vsock', guestCid, path, listener: listener.fd },
    blocks: false,
    close: () => {
      listener.close();
      rmSync(path, { force: true });
    },
  };
}

export function createVsockDevice(
  { guestCid, path, listener }: VsockStart,
  services: DeviceServices,
): VirtioDevice {
  const streams = new VsockStreams(path, listener, services);
  const device = new VsockDevice(guestCid, streams);
  return {
    activate(context) {
      device.activate(context);
      streams.start(device);
    },
    kick: (queue) => device.kick(queue),
    reset() {
      streams.stop();
      device.reset();
    },
  };
}

const TAKEN: Readonly<Partial<Record<ListenerState, string>>> = {
  listening: 'another process listens there',
  busy: 'another process listens there',
  other: 'there is a file already',
  forbidden: 'permission denied',
};

/** For this user alone. Takes the place of a socket on which nobody listens any more. */
function listen(path: string): OwnedFd {
  const bad = (found: string, expected: string, cause?: unknown) =>
    new VoltError('host', `Cannot use --vsock path=${path}: ${found} (expected ${expected})`, { cause });
  const bytes = Buffer.byteLength(path);
  const most = MAX_SOCKET_PATH_BYTES - SUFFIX_BYTES;
  if (bytes > most) throw bad(`the path has ${bytes} bytes`, `at most ${most}`);
  const state = probeListener(path);
  const taken = TAKEN[state];
  if (taken !== undefined) throw bad(taken, 'a path of its own for each guest');
  if (state === 'dead') rmSync(path, { force: true });
  const mask = process.umask(0o177);
  try {
    return listenAt(path);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw bad(error.message, 'a path in a directory that you may write', error);
  } finally {
    process.umask(mask);
  }
}

/** Looks at the files, taps and sockets that a client configures, as Firecracker opens them at once. */
import { closeSync, constants, existsSync, fstatSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { isMultiQueueTap, openTap } from '../../ffi/tap.ts';
import type { HostChecks } from './model/resources.ts';
import { describeOsError, osError } from './os-error.ts';

/** Bytes of `struct virtio_net_hdr_v1`, which precedes each packet. */
const NET_HEADER_BYTES = 12;
const MAX_INTERFACE_BYTES = 15;

export const HOST_CHECKS: HostChecks = {
  readable: (path) => tryOpen(path, constants.O_RDONLY),
  disk: (path, readOnly) => tryOpen(path, readOnly ? constants.O_RDONLY : constants.O_RDWR),
  isEmpty: (path) => statSync(path, { throwIfNoEntry: false })?.size === 0,
  tap(name) {
    if (name === '' || Buffer.byteLength(name) > MAX_INTERFACE_BYTES) return osError('EINVAL');
    try {
      using file = openTap(name, 1, NET_HEADER_BYTES)[0]!;
      // Volt could use it, but Firecracker's clients expect the refusal.
      return isMultiQueueTap(file.fd) ? osError('EINVAL') : undefined;
    } catch (error) {
      return describeOsError(error);
    }
  },
  // Not connected to: a back-end may serve one connection only.
  socket(path) {
    try {
      return statSync(path).isSocket() ? undefined : osError('ECONNREFUSED');
    } catch (error) {
      return describeOsError(error);
    }
  },
  vsock(path) {
    if (existsSync(path)) return osError('EADDRINUSE');
    try {
      return statSync(dirname(path)).isDirectory() ? undefined : osError('ENOTDIR');
    } catch (error) {
      return describeOsError(error);
    }
  },
};

function tryOpen(path: string, flags: number): string | undefined {
  try {
    const fd = openSync(path, flags | constants.O_NONBLOCK);
    const isDirectory = fstatSync(fd).isDirectory();
    closeSync(fd);
    return isDirectory && flags !== constants.O_RDONLY ? osError('EISDIR') : undefined;
  } catch (error) {
    return describeOsError(error);
  }
}

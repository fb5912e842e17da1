/** How many files a machine opens, and whether this process may open so many. */
import { raiseOpenFilesLimit } from '../ffi/limits.ts';
import { VoltError } from '../volt-error.ts';

/**
 * KVM's descriptor of the vCPU, an epoll and an eventfd of its Worker's event loop. (Counted in
 * /proc/self/fd)
 */
export const FILES_PER_VCPU = 3;
/** A device's own files, two eventfds and one for each queue; four of its worker. */
const FILES_PER_DEVICE = 24;
/** Two more for each queue, its pin and its messages. */
const FILES_PER_PCI_DEVICE = 2 * FILES_PER_DEVICE;
const OTHER_FILES = 32;

/**
 * Raises the soft limit as far as is needed. Throws VoltError 'host' where the hard limit is lower: the
 * runtime aborts the process when a Worker finds no descriptor left.
 */
export function ensureOpenFiles(cpus: number, devices: number, onPci: boolean): void {
  const perDevice = onPci ? FILES_PER_PCI_DEVICE : FILES_PER_DEVICE;
  const needed = cpus * FILES_PER_VCPU + devices * perDevice + OTHER_FILES;
  const limit = raiseOpenFilesLimit(needed);
  if (limit >= needed) return;
  throw new VoltError(
    'host',
    `Cannot start ${cpus} vCPUs: this process may open ${limit} files (expected ${needed}; raise it with ulimit -n)`,
  );
}

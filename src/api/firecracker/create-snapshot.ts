/**
 * Writes a paused microVM to the two files that a client names: Volt's state file, and a memory file as Firecracker's,
 * RAM as it is with holes for pages of zeroes, or with `Diff` for those that have not changed. An existing memory file of
 * the same length gets the changes merged into it.
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
  type PathLike,
} from 'node:fs';
import { promisify } from 'node:util';
import { formatOutput } from '../../json/output.ts';
import { SyscallError } from '../../ffi/errno.ts';
import { OwnedFd } from '../../ffi/file.ts';
import { newSnapshotId } from '../../vmm/state/snapshot-directory.ts';
import { lastSnapshotId, takeSnapshot, type SnapshotFiles } from '../../vmm/state/snapshot.ts';
import type { VirtualMachine } from '../../vmm/virtual-machine.ts';
import { VoltError } from '../../volt-error.ts';
import { ActionFault } from './model/fault.ts';
import type { VmResources } from './model/resources.ts';
import { SNAPSHOT_VERSION } from './model/version.ts';
import { describeOsError } from './os-error.ts';
import type { SnapshotCreateBody } from './request/bodies.ts';

const syncFile = promisify(fsync);
/** As Firecracker's: its jailer's umask decides. */
const MODE = 0o666;
const STATE_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC;
/** Not truncated: the guest may run from the pages of this very file. */
const MEMORY_FLAGS = constants.O_RDWR | constants.O_CREAT;

/** The microVM's vCPUs are paused. Throws ActionFault. */
export async function createSnapshot(
  vm: VirtualMachine,
  { snapshot_type: type, snapshot_path: statePath, mem_file_path: memoryPath }: SnapshotCreateBody,
  resources: VmResources,
): Promise<void> {
  const base = type === 'Diff' ? lastSnapshotId(vm.machine) : undefined;
  const request = {
    ...{ id: newSnapshotId(), directory: statePath, track: resources.machine.track_dirty_pages },
    ...(base === undefined ? {} : { base }),
    // As text, because it has numbers of 64 bits.
    api: { version: SNAPSHOT_VERSION, config: formatOutput(resources.describeAll()) },
  };
  let files: SnapshotFiles | undefined;
  try {
    await takeSnapshot(vm, request, {
      open: () => Promise.resolve((files = openFiles(statePath, memoryPath, vm, base !== undefined))),
      commit: async () => {
        await onState('sync_all', () => syncFile(files!.state.fd));
        await onMemory('sync_all', () => syncFile(files!.memory.fd));
      },
      signal: new AbortController().signal,
      onProgress: () => {},
    });
  } catch (error) {
    if (error instanceof VoltError || error instanceof SyscallError)
      throw createFault(`Cannot save the microVM state: Operation not allowed: ${error.message}`);
    throw error;
  }
}

function openFiles(
  statePath: PathLike,
  memoryPath: PathLike,
  vm: VirtualMachine,
  isDiff: boolean,
): SnapshotFiles {
  const state = new OwnedFd(backing('snapshot', 'open', () => openSync(statePath, STATE_FLAGS, MODE)));
  try {
    return { state, ...openMemory(memoryPath, vm.machine.memory.bytes, isDiff) };
  } catch (error) {
    state.close();
    throw error;
  }
}

function openMemory(path: PathLike, bytes: number, isDiff: boolean): Pick<SnapshotFiles, 'memory' | 'merge'> {
  const existed = existsSync(path);
  const fd = backing('memory', 'open', () => openSync(path, MEMORY_FLAGS, MODE));
  try {
    const hasMemory = existed && fstatSync(fd).size === bytes;
    if (existed && !hasMemory) backing('memory', 'truncate', () => ftruncateSync(fd, 0));
    backing('memory', 'set_length', () => ftruncateSync(fd, bytes));
    return { memory: new OwnedFd(fd), merge: isDiff || hasMemory };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

type Backing = 'snapshot' | 'memory';

function backing<T>(file: Backing, step: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw backingFault(file, step, error);
  }
}

const onState = (step: string, act: () => Promise<void>) => act().catch(rethrow('snapshot', step));
const onMemory = (step: string, act: () => Promise<void>) => act().catch(rethrow('memory', step));

function rethrow(file: Backing, step: string) {
  return (error: unknown) => {
    throw backingFault(file, step, error);
  };
}

function backingFault(file: Backing, step: string, error: unknown): ActionFault {
  return createFault(`Cannot perform ${step} on the ${file} backing file: ${describeOsError(error)}`);
}

function createFault(why: string): ActionFault {
  return new ActionFault(`Create snapshot error: ${why}`);
}

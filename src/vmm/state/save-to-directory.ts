/** Saves a machine of this process to a directory. */
import { SnapshotDirectory, newSnapshotId } from './snapshot-directory.ts';
import { takeSnapshot, type SavableVm, type SnapshotProgress, type SnapshotResult } from './snapshot.ts';

/** Options of `VirtualMachine.snapshot`. */
export interface SnapshotOptions {
  /**
   * Write only what has changed since the snapshot in the directory, which must be the guest's last one. In
   * an empty directory: everything.
   */
  readonly diff?: boolean;
  /** Copy most of RAM while the guest runs, so that it is paused for less time. */
  readonly live?: boolean;
  /** End the guest when it is saved. */
  readonly stop?: boolean;
  /** Aborted: the guest goes on without a snapshot. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: SnapshotProgress) => void;
}

/** See `VirtualMachine.snapshot`. */
export async function saveToDirectory(
  vm: SavableVm,
  directory: string,
  { diff, live, stop, signal, onProgress }: SnapshotOptions,
): Promise<SnapshotResult> {
  using target = new SnapshotDirectory(directory);
  const id = newSnapshotId();
  const base = diff ? target.current?.id : undefined;
  const request = {
    ...{ id, directory, live: live ?? false, stop: stop ?? false },
    ...(base === undefined ? {} : { base }),
  };
  return await takeSnapshot(vm, request, {
    open: async () => target.begin(id),
    commit: () => target.commit(),
    signal: signal ?? new AbortController().signal,
    onProgress: (progress) => onProgress?.(progress),
  });
}

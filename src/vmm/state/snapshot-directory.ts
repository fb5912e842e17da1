/**
 * The directory of a snapshot, for whoever may open files: the client of a control socket, or a program that
 * uses Volt as a library.
 *
 * New files are written beside the old ones under names of their own; a rename of `state` makes them the
 * snapshot. Each step before it is on the disk first. So a process that is killed, or a host that loses
 * power, leaves the old snapshot or the new one. Files with other names are never touched.
 */
import { constants, fsync, mkdirSync, openSync, readdirSync, renameSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { lockFile } from '../../ffi/block-file.ts';
import { OwnedFd } from '../../ffi/file.ts';
import { randomBytes } from '../../ffi/random.ts';
import { VoltError } from '../../volt-error.ts';
import type { MachineState } from './machine-state.ts';
import { memoryFileName, isMemoryFile } from './memory-state.ts';
import { readStateFile } from './read-state-file.ts';
import type { SnapshotFiles } from './snapshot.ts';

const STATE = 'state';
const NEW_STATE = /^state\.tmp-[0-9a-f]{32}$/;
const newStateName = (id: string) => `state.tmp-${id}`;

/** Memory holds whatever the guest does: passwords, keys, files. */
const PRIVATE_DIRECTORY = 0o700;
const PRIVATE_FILE = 0o600;
const NEW_FILE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

const syncFile = promisify(fsync);

/** Random: two snapshots never have the same. */
export function newSnapshotId(): string {
  return Buffer.from(randomBytes(16)).toString('hex');
}

/** Takes a new snapshot in a directory, whose lock it holds until it is disposed of. */
export class SnapshotDirectory implements Disposable {
  readonly path: string;
  /** The snapshot that is there. */
  readonly current: MachineState | undefined;
  readonly #fd: OwnedFd;
  #id: string | undefined;
  #files: SnapshotFiles | undefined;

  /** Creates the directory if there is none. Throws VoltError 'host' and 'image'. */
  constructor(path: string) {
    this.path = path;
    this.#fd = openDirectory(path);
    try {
      lock(path, this.#fd.fd);
      this.current = hasState(path) ? readStateFile(path) : undefined;
    } catch (error) {
      this.#fd.close();
      throw error;
    }
  }

  /** Creates the files of snapshot `id`. Throws VoltError 'host'. */
  begin(id: string): SnapshotFiles {
    this.#id = id;
    const memory = this.#create(memoryFileName(id));
    try {
      return (this.#files = { memory, state: this.#create(newStateName(id)) });
    } catch (error) {
      memory.close();
      throw error;
    }
  }

  /**
   * Makes the written files the snapshot of this directory, and removes the files of earlier ones that it
   * does not need. Throws VoltError 'host', with the earlier snapshot in its place.
   */
  async commit(): Promise<void> {
    const { memory, state } = this.#files!;
    try {
      await syncFile(memory.fd);
      await syncFile(state.fd);
      renameSync(join(this.path, newStateName(this.#id!)), join(this.path, STATE));
      this.#id = undefined;
      await syncFile(this.#fd.fd);
    } catch (error) {
      throw cannotWrite(this.path, explainWrite(error), error);
    }
    this.#removeStale();
  }

  /** Removes the files of a snapshot that was not committed, and releases the lock. */
  [Symbol.dispose](): void {
    if (this.#id !== undefined) {
      removeIfThere(join(this.path, newStateName(this.#id)));
      removeIfThere(join(this.path, memoryFileName(this.#id)));
    }
    this.#files?.memory.close();
    this.#files?.state.close();
    this.#fd.close();
  }

  #create(name: string): OwnedFd {
    try {
      return new OwnedFd(openSync(join(this.path, name), NEW_FILE, PRIVATE_FILE));
    } catch (error) {
      throw cannotWrite(this.path, explainWrite(error), error);
    }
  }

  /** Only those that the state in its place does not name, whoever wrote it. */
  #removeStale(): void {
    const kept = new Set(readStateFile(this.path).memory.layers.map(({ file }) => file));
    for (const name of readdirSync(this.path)) {
      if (NEW_STATE.test(name) || (isMemoryFile(name) && !kept.has(name)))
        removeIfThere(join(this.path, name));
    }
  }
}

function openDirectory(path: string): OwnedFd {
  try {
    mkdirSync(path, { mode: PRIVATE_DIRECTORY });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EEXIST') throw cannotWrite(path, explainWrite(error), error);
  }
  try {
    return new OwnedFd(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
  } catch (error) {
    throw cannotWrite(path, explainWrite(error), error);
  }
}

function lock(path: string, fd: number): void {
  if (lockFile(fd, true)) return;
  throw cannotWrite(path, 'another snapshot is written there; wait for its end');
}

function hasState(path: string): boolean {
  return readdirSync(path).includes(STATE);
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Another process was faster, or the directory is read-only now; the next snapshot removes it.
  }
}

function explainWrite(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const found: Readonly<Record<string, string>> = {
    ENOENT: 'there is no directory above it; create it',
    ENOTDIR: 'it is not a directory; name another one',
    EACCES: 'permission denied; name a directory that you may write to',
    EROFS: 'the file system is read-only; name a directory that you may write to',
    ENOSPC: 'the file system is full; make room',
    EDQUOT: 'your quota is used up; make room',
  };
  return found[code ?? ''] ?? message;
}

function cannotWrite(path: string, found: string, cause?: unknown): VoltError {
  return new VoltError('host', `Cannot write a snapshot to ${path}: ${found}`, { cause });
}

/** Reads the state of a snapshot from its directory. */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VoltError } from '../../volt-error.ts';
import { decodeState, MAX_STATE_BYTES, type MachineState } from './machine-state.ts';

/** Name of the state's file in the directory. */
const STATE_FILE = 'state';

/** Throws VoltError 'image' for anything but a snapshot. */
export function readStateFile(directory: string): MachineState {
  const path = join(directory, STATE_FILE);
  const fail = (problem: string, cause?: unknown) =>
    new VoltError('image', `Cannot read the snapshot ${directory}: ${problem}`, { cause });
  let fd: number;
  try {
    // Without O_NONBLOCK the opening of a FIFO waits for a writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw fail(message, error);
    throw fail(`it has no file ${STATE_FILE}; name the directory that volt ctl PID snapshot wrote`, error);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw fail(`${path} is not a regular file; name the directory of a snapshot`);
    if (stat.size > MAX_STATE_BYTES)
      throw fail(`${path} has ${stat.size} bytes (expected at most ${MAX_STATE_BYTES})`);
    return decodeState(readFileSync(fd), directory);
  } finally {
    closeSync(fd);
  }
}

// A program that imports Volt has this declaration only by reference; ambient modules cannot be imported.
// oxlint-disable-next-line typescript/triple-slash-reference
/// <reference path="./embedded.d.ts" preserve="true" />
/** Kernel, initrd and symbol files: opened once, read in pieces. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import smpKernelPath from '../../kernels/smp/smp.elf' with { type: 'file' };
import { bytesAsSource, type ByteSource } from '../binary/byte-source.ts';
import { ERRNO, SyscallError } from '../ffi/errno.ts';
import { OPEN, openFile, readAt } from '../ffi/file.ts';
import { statPath } from '../ffi/stat.ts';
import { VoltError } from '../volt-error.ts';

export interface ImageFile extends ByteSource, Disposable {
  /** undefined: the image is in this process's memory. */
  readonly fd: number | undefined;
}

/**
 * The kernel at `path`, or the embedded one without a path. `name` is what errors call it. Throws VoltError
 * 'image'.
 */
export function openKernel(path: string | undefined, name: string): ImageFile {
  return path === undefined ? embeddedKernel() : openImage(path, name);
}

/** The SMP kernel of kernels/smp, which is part of the executable. */
function embeddedKernel(): ImageFile {
  // In a bundle the path is relative to the bundle.
  const kernel = resolve(dirname(fileURLToPath(import.meta.url)), smpKernelPath);
  const source = bytesAsSource('the embedded kernel', readFileSync(kernel));
  return { ...source, fd: undefined, [Symbol.dispose]: () => {} };
}

/**
 * Opens a regular file; `option` names it in errors. Throws VoltError 'image' for a path that is no such
 * file.
 */
export function openImage(path: string, option: string): ImageFile {
  const state = statPath(path);
  if (state.kind === 'unusable') throw unusable(option, path, state.found, 'the path of a file');
  const owned = open(path, option);
  return {
    name: path,
    fd: owned.fd,
    bytes: state.bytes,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > state.bytes) {
        throw new RangeError(`Cannot read ${length} bytes at ${offset} of ${path} (it has ${state.bytes})`);
      }
      const bytes = new Uint8Array(length);
      const got = readAt(owned.fd, bytes, offset);
      if (got < length) throw unusable(option, path, 'it was cut short while Volt read it', 'a file at rest');
      return bytes;
    },
    [Symbol.dispose]: () => owned.close(),
  };
}

function open(path: string, option: string) {
  try {
    return openFile(path, OPEN.readOnly);
  } catch (error) {
    const denied = error instanceof SyscallError && error.errno === ERRNO.EACCES;
    if (denied) throw unusable(option, path, 'permission denied', 'a file that you may read');
    throw error;
  }
}

function unusable(option: string, path: string, found: string, expected: string): VoltError {
  return new VoltError('image', `Cannot use ${option} ${path}: ${found} (expected ${expected})`);
}

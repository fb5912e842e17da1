/**
 * Makes a compiled Bun program deaf to the environment variables of Bun.
 *
 * Bun looks for some of them before any of our code runs: BUN_BE_BUN turns the program into Bun itself, BUN_OPTIONS
 * and BUN_INSPECT_PRELOAD run files, BUN_INSPECT opens a debugger's socket, BUN_BYTECODE_ORDER_OUT writes a file.
 * `bun build` has no option against that, so the names themselves are taken out of the executable: each is a C string
 * among its read-only data that is handed to getenv(3), which finds nothing by an empty name.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { findSegment } from './elf-segments.ts';

/** Those that do more than tune; a build in which one of them is not found exactly once fails. */
const MUST_GO = [
  'BUN_BE_BUN',
  'BUN_OPTIONS',
  'BUN_INSPECT',
  'BUN_INSPECT_CONNECT_TO',
  'BUN_INSPECT_PRELOAD',
  'BUN_BYTECODE_DIGEST_OUT',
  'BUN_BYTECODE_ORDER_NAMES_OUT',
  'BUN_BYTECODE_ORDER_OUT',
  'BUN_CRASH_REPORT_URL',
  'BUN_ENABLE_CRASH_REPORTING',
  'BUN_RUNTIME_TRANSPILER_CACHE_PATH',
  'BUN_TRACE',
  'NODE_CHANNEL_FD',
] as const;

const NAME = /(?<=\0)(?:BUN_[A-Z][A-Za-z0-9_]{2,44}|NODE_CHANNEL_FD)(?=\0)/g;

const READ_ONLY = 4;

/** Rewrites the file in place; returns the names that were taken out. Throws when one that must go is not there. */
export function sealExecutable(path: string): string[] {
  const fd = openSync(path, 'r+');
  try {
    const { offset, bytes } = findSegment(fd, READ_ONLY);
    // Latin 1 maps bytes to characters one to one, so that an index is an offset.
    const text = bytes.toString('latin1');
    const found = [...text.matchAll(NAME)].map((match) => ({ name: match[0], at: match.index }));
    for (const name of MUST_GO) {
      const times = found.filter((each) => each.name === name).length;
      if (times !== 1)
        throw new Error(
          `Cannot seal ${path}: it names ${name} ${times} times (expected once; see Bun's changes)`,
        );
    }
    for (const { at } of found) writeSync(fd, Buffer.of(0), 0, 1, offset + at);
    return found.map(({ name }) => name);
  } finally {
    closeSync(fd);
  }
}

/**
 * Keeps what a helper process such as passt or virtiofsd writes to stderr: its last line says why it ended.
 */
import type { OwnedFd } from '../../ffi/file.ts';
import { createSocketPair } from '../../ffi/socket-pair.ts';
import { receiveBytes } from '../../ffi/unix-stream.ts';

const READ_BYTES = 4096;
const MAX_SHOWN_CHARACTERS = 200;

/** Neither end blocks. A helper that fills the buffer loses output instead of waiting. */
export function createHelperOutput(): [ours: OwnedFd, theirs: OwnedFd] {
  return createSocketPair(true);
}

/** Reads all pending output and returns its last line; empty if there is none. */
function readLastLine(fd: number, shorten: (line: string) => string): string {
  const bytes = new Uint8Array(READ_BYTES);
  let text = '';
  for (let got = receiveBytes(fd, bytes, bytes.length); got > 0; got = receiveBytes(fd, bytes, bytes.length))
    text = (text + Buffer.from(bytes.subarray(0, got)).toString('utf8')).slice(-READ_BYTES);
  return shorten(text.trim().split('\n').at(-1)!.trim()).slice(0, MAX_SHOWN_CHARACTERS);
}

/**
 * A suffix for messages about a helper: `, last message: "Address already in use"`; empty if it wrote
 * nothing. `shorten` leaves out what is of no use.
 */
export function quoteLastLine(fd: number, shorten = (line: string) => line): string {
  const line = readLastLine(fd, shorten);
  return line === '' ? '' : `, last message: "${line}"`;
}

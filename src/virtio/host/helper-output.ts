/** What a helper process such as passt or virtiofsd writes to stderr: kept, so that its last line can say why it ended. */
import type { OwnedFd } from '../../ffi/file.ts';
import { createSocketPair } from '../../ffi/socket-pair.ts';
import { receiveBytes } from '../../ffi/unix-stream.ts';

const READ_BYTES = 4096;
const MAX_SHOWN_CHARACTERS = 200;

/** Neither end blocks: a helper that writes much loses output rather than time. */
export function createHelperOutput(): [ours: OwnedFd, theirs: OwnedFd] {
  return createSocketPair(true);
}

/** The last line that was written and not read yet; empty without one. */
function readLastLine(fd: number): string {
  const bytes = new Uint8Array(READ_BYTES);
  let text = '';
  for (let got = receiveBytes(fd, bytes, bytes.length); got > 0; got = receiveBytes(fd, bytes, bytes.length))
    text = (text + Buffer.from(bytes.subarray(0, got)).toString('utf8')).slice(-READ_BYTES);
  return text.trim().split('\n').at(-1)!.trim().slice(0, MAX_SHOWN_CHARACTERS);
}

/** `, last message: "Address already in use"`, for what is said of a helper; empty where it wrote nothing. */
export function quoteLastLine(fd: number): string {
  const line = readLastLine(fd);
  return line === '' ? '' : `, last message: "${line}"`;
}

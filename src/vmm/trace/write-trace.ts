/** Writes a trace to an open file. */
import { writeSync } from 'node:fs';
import { formatTrace } from '../../trace/trace-events.ts';
import type { TraceInput } from '../../trace/trace-input.ts';

const PIECE_CHARACTERS = 256 * 1024;

/** Returns the length of the file. Throws the error of write(2). */
export function writeTrace(fd: number, input: TraceInput): number {
  let text = '';
  let bytes = 0;
  const flush = () => {
    const piece = Buffer.from(text, 'utf8');
    for (let done = 0; done < piece.length;) done += writeSync(fd, piece, done);
    bytes += piece.length;
    text = '';
  };
  for (const piece of formatTrace(input)) {
    text += piece;
    if (text.length > PIECE_CHARACTERS) flush();
  }
  flush();
  return bytes;
}

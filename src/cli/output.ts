/** Text on stdout and stderr, written synchronously and without Node's streams, which take long to load. */
import { writeSync } from 'node:fs';
import { VoltError } from '../api/index.ts';

const STDERR = 2;

/** Writes synchronously: a line must be written before the process ends. */
export function writeStderr(text: string): void {
  try {
    writeSync(STDERR, text);
  } catch {
    // stderr is closed or full, and there is no other place to report that.
  }
}

/**
 * For commands whose result is text. A reader that has closed the pipe is not an error. Any other failure to
 * write the result throws VoltError 'host'.
 */
export function writeStdout(text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN')
        throw new VoltError(
          'host',
          `Cannot write to stdout: ${code}, ${text.length - done} bytes of the result are missing; make room or redirect it`,
        );
      Bun.sleepSync(1);
    }
  }
}

/**
 * For a stream of results. Returns false when the reader has closed the pipe, so that `volt ctl … events |
 * head` ends.
 */
export function writeLine(line: string): boolean {
  return writeBytes(Buffer.from(`${line}\n`, 'utf8'));
}

/** The same for bytes. */
export function writeBytes(bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return false;
      Bun.sleepSync(1);
    }
  }
  return true;
}

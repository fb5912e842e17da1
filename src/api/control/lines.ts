/** Splits a stream of bytes into lines. */

const NEWLINE = 0x0a;
const FIRST_BYTES = 1024;

export interface LineBuffer {
  readonly limit: number;
  /** The line that has not ended yet; grows up to `limit`. */
  partial: Uint8Array;
  bytes: number;
  /** A line was longer than `limit`; nothing more is read. */
  overlong: boolean;
}

export function createLineBuffer(limit: number): LineBuffer {
  return { limit, partial: new Uint8Array(FIRST_BYTES), bytes: 0, overlong: false };
}

/** The lines that `chunk` completes, without their newlines. */
export function takeLines(buffer: LineBuffer, chunk: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  for (let from = 0; !buffer.overlong;) {
    const at = chunk.indexOf(NEWLINE, from);
    append(buffer, chunk.subarray(from, at < 0 ? chunk.length : at));
    if (at < 0 || buffer.overlong) break;
    lines.push(buffer.partial.slice(0, buffer.bytes));
    buffer.bytes = 0;
    from = at + 1;
  }
  return lines;
}

/** Bytes after the last newline, at the end of the stream; undefined if there are none. */
export function takeRest(buffer: LineBuffer): Uint8Array | undefined {
  if (buffer.bytes === 0 || buffer.overlong) return undefined;
  const rest = buffer.partial.slice(0, buffer.bytes);
  buffer.bytes = 0;
  return rest;
}

function append(buffer: LineBuffer, bytes: Uint8Array): void {
  const total = buffer.bytes + bytes.length;
  if (total > buffer.limit) {
    buffer.overlong = true;
    buffer.partial = new Uint8Array();
    buffer.bytes = 0;
    return;
  }
  if (total > buffer.partial.length) {
    const grown = new Uint8Array(Math.min(buffer.limit, Math.max(total, buffer.partial.length * 2)));
    grown.set(buffer.partial.subarray(0, buffer.bytes));
    buffer.partial = grown;
  }
  buffer.partial.set(bytes, buffer.bytes);
  buffer.bytes = total;
}

/** Whether the line has only spaces, tabs and carriage returns, and is ignored. */
export function isBlank(line: Uint8Array): boolean {
  return line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
}

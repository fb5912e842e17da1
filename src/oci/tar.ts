/**
 * Reads a tar archive piece by piece: ustar and pax (POSIX.1-2017, pax, "EXTENDED DESCRIPTION"), and the long names and
 * large numbers of GNU tar. The archive is not trusted: every field is checked, and nothing is kept but headers.
 */
import { VoltError } from '../volt-error.ts';

const TAR_BLOCK_BYTES = 512;

/** Offsets in a header block; numbers are octal text. (POSIX.1-2017, pax, "ustar Interchange Format") */
const HEADER = {
  name: { at: 0, bytes: 100 },
  size: { at: 124, bytes: 12 },
  checksum: { at: 148, bytes: 8 },
  type: { at: 156, bytes: 1 },
  magic: { at: 257, bytes: 5 },
  prefix: { at: 345, bytes: 155 },
} as const;

type Field = (typeof HEADER)[keyof typeof HEADER];

export interface TarEntry {
  /** Without `./` and `/` at its beginning, and without `/` at its end. */
  readonly name: string;
  /** `other` has data that is no file's content, or is a device. */
  readonly type: 'file' | 'directory' | 'link' | 'other';
  readonly bytes: number;
  /** Where its data begins in the archive. */
  readonly offset: number;
}

export interface TarEffects {
  /** Called for each entry; true: its data is wanted. */
  entry(entry: TarEntry): boolean;
  /** A piece of the data of the entry that was wanted. The bytes are valid during the call. */
  data(piece: Uint8Array): void;
  /** The data of a wanted entry is complete. */
  end(): void;
}

/** More than any image has; each takes a header block. */
const MAX_TAR_ENTRIES = 1_000_000;
/** Longer than PATH_MAX and a few attributes. */
const MAX_EXTENSION_BYTES = 64 * 1024;
const MAX_ENTRY_BYTES = 2 ** 50;

interface Extension {
  name: string | undefined;
  bytes: number | undefined;
  /** The entry's data is a map of a sparse file. */
  isSparse: boolean;
}

type State = 'header' | 'data' | 'extension' | 'end';

export class TarReader {
  readonly #effects: TarEffects;
  readonly #header = new Uint8Array(TAR_BLOCK_BYTES);
  #headerFilled = 0;
  #state: State = 'header';
  /** Bytes of data and of padding that follow. */
  #left = 0;
  #padding = 0;
  #isWanted = false;
  #offset = 0;
  #entries = 0;
  #extensionType = '';
  #extensionData: number[] = [];
  #extension: Extension = { name: undefined, bytes: undefined, isSparse: false };
  readonly #fail: (found: string) => VoltError;

  /** `what` names the archive in errors: "Cannot use <what>: …". */
  constructor(what: string, effects: TarEffects) {
    this.#effects = effects;
    this.#fail = (found) => new VoltError('image', `Cannot use ${what}: ${found} (expected a tar archive)`);
  }

  /** Takes the next bytes of the archive. Throws VoltError 'image'. */
  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && this.#state !== 'end') {
      if (this.#state === 'header') at = this.#takeHeader(bytes, at);
      else at = this.#takeData(bytes, at);
    }
  }

  /** Skips bytes that were not read, of data that is not wanted. Returns how many may be skipped now. */
  get skippable(): number {
    return this.#state === 'data' && !this.#isWanted ? this.#left + this.#padding : 0;
  }

  skip(bytes: number): void {
    if (bytes > this.skippable) throw new RangeError('Cannot skip bytes that are wanted');
    const data = Math.min(bytes, this.#left);
    this.#left -= data;
    this.#padding -= bytes - data;
    this.#offset += bytes;
    if (this.#left + this.#padding === 0) this.#state = 'header';
  }

  /** The archive has no more bytes. Throws VoltError 'image' when it ends within an entry. */
  finish(): void {
    if (this.#state === 'end' || (this.#state === 'header' && this.#headerFilled === 0 && this.#entries > 0))
      return;
    throw this.#fail(this.#entries === 0 ? 'it has no entry' : 'it ends within an entry');
  }

  #takeHeader(bytes: Uint8Array, at: number): number {
    const part = bytes.subarray(at, at + TAR_BLOCK_BYTES - this.#headerFilled);
    this.#header.set(part, this.#headerFilled);
    this.#headerFilled += part.length;
    this.#offset += part.length;
    if (this.#headerFilled === TAR_BLOCK_BYTES) {
      this.#headerFilled = 0;
      this.#begin();
    }
    return at + part.length;
  }

  #begin(): void {
    const header = this.#header;
    if (header.every((byte) => byte === 0)) {
      // Two empty blocks end an archive; one is as good.
      this.#state = 'end';
      return;
    }
    if (++this.#entries > MAX_TAR_ENTRIES) throw this.#fail(`it has more than ${MAX_TAR_ENTRIES} entries`);
    if (this.#numberOf(HEADER.checksum) !== checksumOf(header))
      throw this.#fail(`the header at ${this.#offset - TAR_BLOCK_BYTES} has a wrong checksum`);
    const type = String.fromCharCode(header[HEADER.type.at]!);
    const size = this.#numberOf(HEADER.size);
    const isExtension = type === 'x' || type === 'L';
    const isIgnored = type === 'g' || type === 'K';
    const bytes = isExtension || isIgnored ? size : (this.#extension.bytes ?? size);
    if (bytes > MAX_ENTRY_BYTES || (isExtension && bytes > MAX_EXTENSION_BYTES))
      throw this.#fail(`an entry has ${bytes} bytes`);
    const kind = this.#kindOf(type);
    // Only files have data, whatever size the header of another entry gives. Extensions are files in this respect.
    this.#left = kind === 'directory' || kind === 'link' ? 0 : bytes;
    this.#padding = (TAR_BLOCK_BYTES - (this.#left % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
    if (isExtension) {
      this.#extensionType = type;
      this.#extensionData = [];
      this.#state = 'extension';
    } else {
      this.#isWanted =
        !isIgnored &&
        this.#effects.entry({ name: this.#nameOf(), type: kind, bytes: this.#left, offset: this.#offset });
      if (!isIgnored) this.#extension = { name: undefined, bytes: undefined, isSparse: false };
      this.#state = 'data';
    }
    if (this.#left === 0) this.#completeData();
  }

  #takeData(bytes: Uint8Array, at: number): number {
    if (this.#left > 0) {
      const piece = bytes.subarray(at, at + this.#left);
      if (this.#state === 'extension') for (const byte of piece) this.#extensionData.push(byte);
      else if (this.#isWanted) this.#effects.data(piece);
      this.#left -= piece.length;
      this.#offset += piece.length;
      if (this.#left === 0) this.#completeData();
      return at + piece.length;
    }
    const padding = Math.min(this.#padding, bytes.length - at);
    this.#padding -= padding;
    this.#offset += padding;
    if (this.#padding === 0) this.#state = 'header';
    return at + padding;
  }

  #completeData(): void {
    if (this.#state === 'extension') this.#readExtension();
    else if (this.#isWanted) this.#effects.end();
    this.#isWanted = false;
    this.#state = this.#padding > 0 ? 'data' : 'header';
  }

  #readExtension(): void {
    const text = new TextDecoder().decode(Uint8Array.from(this.#extensionData));
    if (this.#extensionType === 'L') {
      this.#extension.name = text.replace(/\0[^]*$/, '');
      return;
    }
    // Records `LENGTH KEY=VALUE\n`. (POSIX.1-2017, pax, "pax Extended Header")
    for (let at = 0; at < text.length;) {
      const space = text.indexOf(' ', at);
      const length = Number(text.slice(at, space));
      if (space < 0 || !Number.isInteger(length) || length <= space - at || at + length > text.length)
        throw this.#fail('an extended header is damaged');
      const record = text.slice(space + 1, at + length - 1);
      const equals = record.indexOf('=');
      const [key, value] = [record.slice(0, equals), record.slice(equals + 1)];
      if (key === 'path') this.#extension.name = value;
      else if (key === 'size') this.#extension.bytes = this.#wholeNumber(value);
      else if (key.startsWith('GNU.sparse.')) this.#extension.isSparse = true;
      at += length;
    }
  }

  #kindOf(type: string): TarEntry['type'] {
    if (type === '0' || type === '\0' || type === '7') return this.#extension.isSparse ? 'other' : 'file';
    if (type === '5') return 'directory';
    return type === '1' || type === '2' ? 'link' : 'other';
  }

  #nameOf(): string {
    const prefix = this.#textOf(HEADER.magic) === 'ustar' ? this.#textOf(HEADER.prefix) : '';
    const own = this.#textOf(HEADER.name);
    const name = this.#extension.name ?? (prefix === '' ? own : `${prefix}/${own}`);
    return name.replace(/^(?:\.?\/)+/, '').replace(/\/+$/, '');
  }

  #textOf({ at, bytes }: Field): string {
    return new TextDecoder().decode(this.#header.subarray(at, at + bytes)).replace(/\0[^]*$/, '');
  }

  #numberOf(field: Field): number {
    const bytes = this.#header.subarray(field.at, field.at + field.bytes);
    if (bytes[0] === 0x80) return bytes.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0);
    const text = this.#textOf(field).trim();
    if (/^[0-7]*$/.test(text)) return text === '' ? 0 : parseInt(text, 8);
    throw this.#fail(`the header at ${this.#offset - TAR_BLOCK_BYTES} is damaged`);
  }

  #wholeNumber(text: string): number {
    if (/^\d{1,15}$/.test(text)) return Number(text);
    throw this.#fail('an extended header is damaged');
  }
}

/** The sum of all bytes, with spaces in place of the checksum itself. */
function checksumOf(header: Uint8Array): number {
  const { at, bytes } = HEADER.checksum;
  return header.reduce((sum, byte, i) => sum + (i >= at && i < at + bytes ? 0x20 : byte), 0);
}

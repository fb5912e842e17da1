/**
 * A parser for JSON configuration files (RFC 8259) whose errors have line and column. Duplicate keys in an
 * object are refused, because one of them would have no effect.
 */
import { VoltError } from '../volt-error.ts';

/** As in serde_json; far below the depth that overflows the stack. */
const MAX_DEPTH = 128;
const SHOWN_CHARACTERS = 20;

/** Parses the bytes of a file. Throws VoltError 'config' with the problem and its position. */
export function parseJsonText(bytes: Uint8Array): unknown {
  const text = decode(bytes);
  const reader = new JsonReader(text);
  const value = reader.readValue(0);
  reader.expectEnd();
  return value;
}

function decode(bytes: Uint8Array): string {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf)
    throw new VoltError(
      'config',
      'it starts with a byte order mark, which JSON does not allow; save it as UTF-8 without one',
    );
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const before = countValid(bytes);
    const line = bytes.subarray(0, before).filter((byte) => byte === 0x0a).length + 1;
    throw new VoltError('config', `line ${line}: byte ${before} of the file is not valid UTF-8`);
  }
}

/** Number of bytes before the first invalid UTF-8 sequence. */
function countValid(bytes: Uint8Array): number {
  const isValid = (length: number, isWhole = false) => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream: !isWhole });
      return true;
    } catch {
      return false;
    }
  };
  let [low, high] = [0, bytes.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (isValid(middle)) low = middle;
    else high = middle - 1;
  }
  // Back to the start of an incomplete sequence.
  while (low > 0 && !isValid(low, true)) low--;
  return low;
}

class JsonReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  readValue(depth: number): unknown {
    this.#skipSpace();
    if (depth > MAX_DEPTH) throw this.#error(`nested more than ${MAX_DEPTH} deep`);
    const character = this.#text[this.#at];
    if (character === '{') return this.#readObject(depth);
    if (character === '[') return this.#readArray(depth);
    if (character === '"') return this.#readString();
    const token = /[^\s,:{}[\]"]*/y;
    token.lastIndex = this.#at;
    const word = token.exec(this.#text)![0];
    if (word === 'true' || word === 'false' || word === 'null' || NUMBER.test(word)) {
      this.#at += word.length;
      return JSON.parse(word);
    }
    throw this.#error(`expected a value, found ${this.#found()}`);
  }

  expectEnd(): void {
    this.#skipSpace();
    if (this.#at < this.#text.length)
      throw this.#error(`expected the end of the file, found ${this.#found()}`);
  }

  #readObject(depth: number): Record<string, unknown> {
    const entries = new Map<string, unknown>();
    this.#at++;
    this.#skipSpace();
    if (this.#take('}')) return {};
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') throw this.#error(`expected a key in quotes, found ${this.#found()}`);
      const start = this.#at;
      const key = this.#readString();
      if (entries.has(key))
        throw this.#error(`duplicate key ${JSON.stringify(key)}; remove one of the two`, start);
      this.#skipSpace();
      if (!this.#take(':')) throw this.#error(`expected : after a key, found ${this.#found()}`);
      entries.set(key, this.readValue(depth + 1));
      this.#skipSpace();
    } while (this.#take(','));
    if (!this.#take('}')) throw this.#error(`expected , or }, found ${this.#found()}`);
    return Object.fromEntries(entries);
  }

  #readArray(depth: number): unknown[] {
    const values: unknown[] = [];
    this.#at++;
    this.#skipSpace();
    if (this.#take(']')) return values;
    do {
      values.push(this.readValue(depth + 1));
      this.#skipSpace();
    } while (this.#take(','));
    if (!this.#take(']')) throw this.#error(`expected , or ], found ${this.#found()}`);
    return values;
  }

  #readString(): string {
    const token = /"(?:[^"\\]|\\[^])*"/y;
    token.lastIndex = this.#at;
    const quoted = token.exec(this.#text)?.[0];
    if (quoted === undefined) throw this.#error('this string has no closing quote');
    let value: string;
    try {
      value = JSON.parse(quoted) as string;
    } catch {
      throw this.#error('this string has a control character or an invalid escape sequence');
    }
    this.#at += quoted.length;
    return value;
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    while (' \t\r\n'.includes(this.#text[this.#at] ?? 'x')) this.#at++;
  }

  #found(): string {
    if (this.#at >= this.#text.length) return 'the end of the file';
    const rest = /[^\r\n]*/y;
    rest.lastIndex = this.#at;
    return JSON.stringify(rest.exec(this.#text)![0].slice(0, SHOWN_CHARACTERS));
  }

  #error(what: string, at = this.#at): VoltError {
    const before = this.#text.slice(0, at).split('\n');
    return new VoltError('config', `line ${before.length}, column ${before.at(-1)!.length + 1}: ${what}`);
  }
}

/** (RFC 8259 §6) */
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

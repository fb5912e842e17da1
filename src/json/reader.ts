/**
 * A reader of JSON text that knows where it stands. Firecracker's clients see its errors, which name a line and a column
 * as serde_json counts them: lines from 1, columns in bytes of the line that were consumed.
 */
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const MINUS = 0x2d;
const ZERO = 0x30;
const NEWLINE = 0x0a;
/** serde_json's limit of nested lists and objects. */
const MAX_DEPTH = 128;
const MAX_U64 = 2n ** 64n - 1n;
const MIN_I64 = -(2n ** 63n);

/** An error of the text or of a value. `line` is 0 until its position is known. */
export class JsonFault extends Error {
  readonly line: number;
  readonly column: number;
  /** The message without the position. */
  readonly text: string;

  constructor(text: string, line = 0, column = 0) {
    super(line === 0 ? text : `${text} at line ${line} column ${column}`);
    this.text = text;
    this.line = line;
    this.column = column;
  }
}

/** A number: an integer that fits 64 bits, or a floating point number. */
export type JsonNumber =
  { readonly kind: 'integer'; readonly value: bigint } | { readonly kind: 'float'; readonly value: number };

export class JsonReader {
  readonly #bytes: Uint8Array;
  #at = 0;
  #depth = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The next byte that is no white space, which is skipped; undefined at the end. */
  peek(): number | undefined {
    for (;;) {
      const byte = this.#bytes[this.#at];
      if (byte !== 0x20 && byte !== NEWLINE && byte !== 0x09 && byte !== 0x0d) return byte;
      this.#at++;
    }
  }

  eat(): void {
    this.#at++;
  }

  /** A fault behind the last byte that was eaten. */
  fault(text: string): JsonFault {
    return this.#faultAt(text, this.#at);
  }

  /** A fault at the byte that comes next. */
  peekFault(text: string): JsonFault {
    return this.#faultAt(text, Math.min(this.#bytes.length, this.#at + 1));
  }

  /** `error` with the current position, unless it has one. */
  place(error: unknown): unknown {
    return error instanceof JsonFault && error.line === 0 ? this.fault(error.text) : error;
  }

  enter(): void {
    if (++this.#depth >= MAX_DEPTH) throw this.peekFault('recursion limit exceeded');
  }

  leave(): void {
    this.#depth--;
  }

  /** Eats the rest of `null`, `true` or `false`, whose first letter has been eaten. */
  word(rest: string): void {
    for (let i = 0; i < rest.length; i++) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw this.fault('EOF while parsing a value');
      this.#at++;
      if (byte !== rest.charCodeAt(i)) throw this.fault('expected ident');
    }
  }

  /** A string, whose opening quote has been eaten. */
  string(): string {
    const pieces: string[] = [];
    for (;;) {
      const start = this.#at;
      let byte = this.#bytes[this.#at];
      while (byte !== undefined && byte !== QUOTE && byte !== BACKSLASH && byte >= 0x20)
        byte = this.#bytes[++this.#at];
      if (this.#at > start) pieces.push(this.#utf8(start));
      if (byte === undefined) throw this.fault('EOF while parsing a string');
      this.#at++;
      if (byte === QUOTE) return pieces.join('');
      if (byte !== BACKSLASH)
        throw this.fault('control character (\\u0000-\\u001F) found while parsing a string');
      pieces.push(this.#escape());
    }
  }

  /** A number. The reader stands at its first byte, a minus or a digit. */
  number(): JsonNumber {
    const start = this.#at;
    if (this.#bytes[this.#at] === MINUS) this.#at++;
    const first = this.#bytes[this.#at];
    if (first === undefined) throw this.fault('EOF while parsing a value');
    this.#at++;
    if (!isDigit(first)) throw this.fault('invalid number');
    if (first === ZERO && isDigit(this.#bytes[this.#at])) throw this.peekFault('invalid number');
    this.#digits();
    let isFloat = false;
    if (this.#bytes[this.#at] === 0x2e) {
      isFloat = true;
      this.#at++;
      this.#neededDigits();
    }
    const exponent = this.#bytes[this.#at];
    if (exponent === 0x65 || exponent === 0x45) {
      isFloat = true;
      this.#at++;
      const sign = this.#bytes[this.#at];
      if (sign === 0x2b || sign === MINUS) this.#at++;
      const digit = this.#bytes[this.#at];
      if (digit === undefined) throw this.fault('EOF while parsing a value');
      this.#at++;
      if (!isDigit(digit)) throw this.fault('invalid number');
      this.#digits();
    }
    const text = Buffer.from(this.#bytes.subarray(start, this.#at)).toString('latin1');
    if (!isFloat && text !== '-0') {
      const value = BigInt(text);
      if (value <= MAX_U64 && value >= MIN_I64) return { kind: 'integer', value };
    }
    const value = Number(text);
    if (!Number.isFinite(value)) throw this.fault('number out of range');
    return { kind: 'float', value };
  }

  /** Refuses anything but white space behind the value. */
  end(): void {
    if (this.peek() !== undefined) throw this.peekFault('trailing characters');
  }

  #digits(): void {
    while (isDigit(this.#bytes[this.#at])) this.#at++;
  }

  #neededDigits(): void {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw this.peekFault('EOF while parsing a value');
    if (!isDigit(byte)) throw this.peekFault('invalid number');
    this.#digits();
  }

  #escape(): string {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw this.fault('EOF while parsing a string');
    this.#at++;
    if (byte === 0x75) return this.#unicode();
    const plain = ESCAPES[String.fromCharCode(byte)];
    if (plain === undefined) throw this.fault('invalid escape');
    return plain;
  }

  #unicode(): string {
    const high = this.#hex();
    if (high >= 0xdc00 && high <= 0xdfff) throw this.fault('lone leading surrogate in hex escape');
    if (high < 0xd800 || high > 0xdbff) return String.fromCharCode(high);
    for (const expected of [BACKSLASH, 0x75]) {
      if (this.#bytes[this.#at] === undefined) throw this.fault('EOF while parsing a string');
      if (this.#bytes[this.#at++] !== expected) throw this.fault('unexpected end of hex escape');
    }
    const low = this.#hex();
    if (low < 0xdc00 || low > 0xdfff) throw this.fault('lone leading surrogate in hex escape');
    return String.fromCharCode(high, low);
  }

  #hex(): number {
    const text = Buffer.from(this.#bytes.subarray(this.#at, this.#at + 4)).toString('latin1');
    if (text.length < 4) {
      this.#at = this.#bytes.length;
      throw this.fault('EOF while parsing a string');
    }
    this.#at += 4;
    if (!/^[\da-f]{4}$/i.test(text)) throw this.fault('invalid escape');
    return Number.parseInt(text, 16);
  }

  #utf8(start: number): string {
    try {
      return UTF8.decode(this.#bytes.subarray(start, this.#at));
    } catch {
      throw this.fault('invalid unicode code point');
    }
  }

  #faultAt(text: string, index: number): JsonFault {
    const before = this.#bytes.subarray(0, index);
    const lineStart = before.lastIndexOf(NEWLINE) + 1;
    let line = 1;
    for (let i = 0; i < lineStart; i++) if (before[i] === NEWLINE) line++;
    return new JsonFault(text, line, index - lineStart);
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= 0x39;
}

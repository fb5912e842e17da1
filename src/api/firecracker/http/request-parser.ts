/**
 * Parses the byte stream of one connection into requests, as Firecracker's HTTP server does: at most 1024 bytes are
 * looked at at once, and a fault in them drops the requests that they completed. (firecracker-microvm/micro-http)
 */
import { METHODS, type ApiRequest, type Method } from '../request/parse.ts';

/** Bytes that are looked at at once; no line of a request's head may be longer. */
const WINDOW_BYTES = 1024;
const CR = 0x0d;
const LF = 0x0a;

export type HttpVersion = 'HTTP/1.0' | 'HTTP/1.1';

export type HttpEvent =
  | { readonly kind: 'request'; readonly request: ApiRequest }
  /** The client waits for leave to send the body. */
  | { readonly kind: 'continue'; readonly version: HttpVersion }
  | { readonly kind: 'fault'; readonly message: string };

interface Pending {
  readonly method: Method;
  readonly path: string;
  readonly version: HttpVersion;
  contentLength: number;
  expects: boolean;
}

class HttpFault extends Error {}

export class RequestParser {
  readonly #maxBodyBytes: number;
  readonly #window = new Uint8Array(WINDOW_BYTES);
  /** Bytes in the window that wait for the rest of their line. */
  #kept = 0;
  #pending: Pending | undefined;
  /** The body so far; undefined while the head is incomplete. */
  #body: Uint8Array[] | undefined;
  #bodyLeft = 0;

  constructor(maxBodyBytes: number) {
    this.#maxBodyBytes = maxBodyBytes;
  }

  /** Takes bytes as they arrived, and returns what they complete. Never throws. */
  push(bytes: Uint8Array): HttpEvent[] {
    const events: HttpEvent[] = [];
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + WINDOW_BYTES - this.#kept);
      at += piece.length;
      const found: HttpEvent[] = [];
      try {
        this.#read(piece, found);
        events.push(...found);
      } catch (error) {
        if (!(error instanceof HttpFault)) throw error;
        this.#kept = 0;
        events.push(...found.filter(({ kind }) => kind === 'continue'));
        events.push({ kind: 'fault', message: error.message });
      }
    }
    return events;
  }

  #read(piece: Uint8Array, events: HttpEvent[]): void {
    this.#window.set(piece, this.#kept);
    const end = this.#kept + piece.length;
    let start = 0;
    for (;;) {
      if (this.#body) {
        const taken = this.#window.slice(start, Math.min(end, start + this.#bodyLeft));
        this.#body.push(taken);
        this.#bodyLeft -= taken.length;
        start += taken.length;
        if (this.#bodyLeft > 0) {
          this.#kept = 0;
          return;
        }
        this.#finish(events, Buffer.concat(this.#body));
        continue;
      }
      const lineEnd = this.#findLineEnd(start, end);
      if (lineEnd < 0) {
        if (start === 0 && end === WINDOW_BYTES) throw this.#overlong();
        this.#window.copyWithin(0, start, end);
        this.#kept = end - start;
        return;
      }
      const line = this.#window.slice(start, lineEnd);
      start = lineEnd + 2;
      if (!this.#pending) this.#pending = parseRequestLine(line);
      else if (line.length > 0) parseField(this.#pending, line);
      else this.#endHead(this.#pending, events);
    }
  }

  #endHead(pending: Pending, events: HttpEvent[]): void {
    const { contentLength, expects, version } = pending;
    if (contentLength === 0) return this.#finish(events, undefined);
    if (contentLength > this.#maxBodyBytes)
      throw new HttpFault(
        `Request payload with size ${contentLength} is larger than the limit of ${this.#maxBodyBytes} allowed by server.`,
      );
    if (expects) events.push({ kind: 'continue', version });
    this.#body = [];
    this.#bodyLeft = contentLength;
  }

  #finish(events: HttpEvent[], body: Uint8Array | undefined): void {
    const { method, path } = this.#pending!;
    events.push({ kind: 'request', request: { method, path, body } });
    this.#pending = undefined;
    this.#body = undefined;
  }

  #findLineEnd(start: number, end: number): number {
    for (let at = this.#window.indexOf(CR, start); at >= 0 && at + 1 < end;) {
      if (this.#window[at + 1] === LF) return at;
      at = this.#window.indexOf(CR, at + 1);
    }
    return -1;
  }

  #overlong(): HttpFault {
    if (!this.#pending) return new HttpFault('Invalid request.');
    const text = Buffer.from(this.#window).toString('utf8');
    return new HttpFault(`Invalid header. Reason: Invalid content length. Header: ${text}`);
  }
}

function parseRequestLine(line: Uint8Array): Pending {
  const text = Buffer.from(line).toString('latin1');
  const match = /^([^ ]*) ([^ ]*) (.*)$/s.exec(text);
  if (!match) throw new HttpFault('Invalid request.');
  const [, method = '', target = '', version = ''] = match;
  if (!isMethod(method)) throw new HttpFault('Invalid HTTP Method: Unsupported HTTP method.');
  if (target === '') throw new HttpFault('Invalid URI: Empty URI not allowed.');
  const path = decode(Buffer.from(target, 'latin1'));
  if (path === undefined) throw new HttpFault('Invalid URI: Cannot parse URI as UTF-8.');
  if (version !== 'HTTP/1.0' && version !== 'HTTP/1.1')
    throw new HttpFault('Invalid HTTP Version: Unsupported HTTP version.');
  return { method, path: absolutePath(path), version, contentLength: 0, expects: false };
}

function isMethod(word: string): word is Method {
  return (METHODS as readonly string[]).includes(word);
}

/** The path of a target that is a URI with scheme and host, or a path; otherwise nothing. */
function absolutePath(target: string): string {
  const scheme = 'http://';
  if (!target.startsWith(scheme)) return target.startsWith('/') ? target : '';
  const slash = target.indexOf('/', scheme.length);
  return slash < 0 ? '' : target.slice(slash);
}

function parseField(pending: Pending, line: Uint8Array): void {
  const text = decode(line);
  if (text === undefined)
    throw new HttpFault(
      'Invalid header. Reason: Header contains invalid characters. Key: invalid utf-8 sequence',
    );
  const colon = text.indexOf(':');
  if (colon < 0) throw new HttpFault(`Invalid header. Reason: Header is incorrectly formatted. Key: ${text}`);
  const key = text.slice(0, colon);
  const value = text.slice(colon + 1);
  switch (key.trim().toLowerCase()) {
    case 'content-length': {
      const length = /^\+?\d+$/.test(value.trim()) ? Number(value.trim()) : NaN;
      if (!(length <= 0xffff_ffff))
        throw new HttpFault(`Invalid header. Reason: Invalid value. Key:${key}; Value:${value}`);
      pending.contentLength = length;
      return;
    }
    case 'expect':
      if (value.trim() === '100-continue') pending.expects = true;
      return;
    case 'accept-encoding':
      return checkEncodings(value.trim());
    default:
  }
}

/** Answers are never encoded, so a client may not forbid that. (RFC 9110 §12.5.3) */
function checkEncodings(value: string): void {
  if (value === '') throw new HttpFault('Invalid request.');
  for (const encoding of value.split(',').map((each) => each.trim())) {
    if (encoding === 'identity;q=0' || (encoding === '*;q=0' && !value.includes('identity')))
      throw new HttpFault(`Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:${encoding}`);
  }
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * What `volt run` and an idle process of a pool say to each other over the pool's socket.
 *
 * 1. request: a header (u32 magic, u32 length, little-endian) and JSON, with stdin, stdout and stderr as its
 *    descriptors (SCM_RIGHTS)
 * 2. answer, a line of JSON: `{"kind":"ready","pid":PID}`, or `{"kind":"refused","why":TEXT}`
 * 3. one byte: the client waits for the guest now. Without it the process stays idle.
 * 4. at the end, a line of JSON: `{"kind":"exit","code":CODE}`; end of file without it: the process was killed
 */
import { viewOf } from '../../binary/bytes.ts';

export interface PoolRequest {
  /** The command line after `volt`. */
  readonly words: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** The caller's `executableId`, if it is Volt. */
  readonly executable?: string | undefined;
}

export type PoolAnswer =
  | { readonly kind: 'ready'; readonly pid: number }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'exit'; readonly code: number };

export const REQUEST_FDS = 3;
export const HEADER = { magic: 0x00, bytes: 0x04, size: 0x08 } as const;
/** "VPL1" */
const MAGIC = 0x314c_5056;
/** Linux limits arguments and environment to 6 MiB together with an 8 MiB stack; JSON may double them. */
export const MAX_REQUEST_BYTES = 8 * 2 ** 20;
export const MAX_ANSWER_BYTES = 4096;
const MAX_STRINGS = 65_536;

/** Throws RangeError for more than MAX_REQUEST_BYTES. */
export function encodeRequest(request: PoolRequest): Uint8Array {
  const json = Buffer.from(JSON.stringify(request), 'utf8');
  if (json.length > MAX_REQUEST_BYTES) throw new RangeError(`a request of ${json.length} bytes`);
  const bytes = new Uint8Array(HEADER.size + json.length);
  const view = viewOf(bytes);
  view.setUint32(HEADER.magic, MAGIC, true);
  view.setUint32(HEADER.bytes, json.length, true);
  bytes.set(json, HEADER.size);
  return bytes;
}

/** The bytes of JSON that follow the header; undefined for what is no request. */
export function requestBytes(header: Uint8Array): number | undefined {
  if (header.length < HEADER.size) return undefined;
  const view = viewOf(header);
  const bytes = view.getUint32(HEADER.bytes, true);
  if (view.getUint32(HEADER.magic, true) !== MAGIC || bytes > MAX_REQUEST_BYTES) return undefined;
  return bytes;
}

/** undefined for what is no request. */
export function decodeRequest(json: Uint8Array): PoolRequest | undefined {
  const value = parseJson(json);
  if (!isObject(value)) return undefined;
  const { words, env, executable } = value;
  if (executable !== undefined && typeof executable !== 'string') return undefined;
  if (!Array.isArray(words) || words.length > MAX_STRINGS || !words.every(isArgument)) return undefined;
  if (!isObject(env)) return undefined;
  const entries = Object.entries(env);
  if (entries.length > MAX_STRINGS || !entries.every(isVariable)) return undefined;
  return { words, env: Object.fromEntries(entries) as Record<string, string>, executable };
}

export function encodeAnswer(answer: PoolAnswer): Uint8Array {
  return Buffer.from(`${JSON.stringify(answer)}\n`, 'utf8');
}

/** The answer in a line without its end; undefined for what is none. */
export function decodeAnswer(line: Uint8Array): PoolAnswer | undefined {
  const value = parseJson(line);
  if (!isObject(value)) return undefined;
  const { kind, pid, why, code } = value;
  if (kind === 'ready' && isWithin(pid, 1, 2 ** 31 - 1)) return { kind, pid };
  if (kind === 'exit' && isWithin(code, 0, 255)) return { kind, code };
  if (kind === 'refused' && typeof why === 'string') return { kind, why };
  return undefined;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A NUL would end the string early for every system call. */
function isArgument(value: unknown): value is string {
  return typeof value === 'string' && !value.includes('\0');
}

function isVariable([name, value]: readonly [string, unknown]): boolean {
  return name !== '' && !/[=\0]/.test(name) && isArgument(value);
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

/**
 * What gdb asks for, from a packet's payload. Pure: every payload becomes one command, and the numbers of a command are
 * within the bounds of their type. (GDB manual, appendix E.2 "Packets", E.5 "General Query Packets")
 */
import { fromHex, MAX_PACKET_BYTES } from './packets.ts';

/** A thread's id, which is the index of its vCPU plus 1. `all`: -1; `any`: 0. */
export type ThreadId = number | 'all' | 'any';

/** (E.2, the types of `Z` packets) */
export type BreakpointKind = 'software' | 'hardware' | WatchKind;
export type WatchKind = 'write' | 'read' | 'access';

export interface ResumeAction {
  readonly kind: 'continue' | 'step';
  /** Step on while the program counter is in [start, end). */
  readonly range?: readonly [start: bigint, end: bigint];
  readonly thread: ThreadId;
}

export type GdbCommand =
  | { readonly kind: 'why-stopped' | 'read-registers' | 'continue-actions' }
  | { readonly kind: 'detach' | 'kill' }
  | { readonly kind: 'write-registers'; readonly bytes: Uint8Array }
  | { readonly kind: 'read-register'; readonly register: number }
  | { readonly kind: 'write-register'; readonly register: number; readonly bytes: Uint8Array }
  | { readonly kind: 'read-memory'; readonly address: bigint; readonly bytes: number }
  | { readonly kind: 'write-memory'; readonly address: bigint; readonly data: Uint8Array }
  /** `general`: what registers and memory are read of; `continue`: what `c` and `s` resume. */
  | { readonly kind: 'select-thread'; readonly use: 'general' | 'continue'; readonly thread: ThreadId }
  | { readonly kind: 'is-alive'; readonly thread: ThreadId }
  | {
      readonly kind: 'insert' | 'remove';
      readonly type: BreakpointKind;
      readonly address: bigint;
      /** Of a watchpoint. */
      readonly bytes: number;
    }
  | { readonly kind: 'resume'; readonly actions: readonly ResumeAction[] }
  | { readonly kind: 'supported'; readonly features: readonly string[] }
  | {
      readonly kind: 'read-object';
      readonly object: 'features' | 'threads';
      readonly annex: string;
      readonly offset: number;
      readonly bytes: number;
    }
  | { readonly kind: 'first-threads' | 'more-threads' | 'current-thread' | 'is-attached' | 'no-ack-mode' }
  | { readonly kind: 'thread-info'; readonly thread: ThreadId }
  | { readonly kind: 'monitor'; readonly line: string }
  /** Known, but its arguments are not what they should be. */
  | { readonly kind: 'malformed' }
  /** To be answered by an empty packet, from which gdb learns that it is not supported. */
  | { readonly kind: 'unsupported' };

const MALFORMED: GdbCommand = { kind: 'malformed' };
const UNSUPPORTED: GdbCommand = { kind: 'unsupported' };
const BREAKPOINT_KINDS: readonly BreakpointKind[] = ['software', 'hardware', 'write', 'read', 'access'];
/** Two digits a byte in a packet. */
const MAX_MEMORY_BYTES = MAX_PACKET_BYTES / 2;
/** gdb splits longer regions. */
const MAX_WATCH_BYTES = 4096;
const MAX_ACTIONS = 1024;

const WORDS: Readonly<Record<string, GdbCommand>> = {
  '?': { kind: 'why-stopped' },
  g: { kind: 'read-registers' },
  k: { kind: 'kill' },
  'vCont?': { kind: 'continue-actions' },
  qfThreadInfo: { kind: 'first-threads' },
  qsThreadInfo: { kind: 'more-threads' },
  qC: { kind: 'current-thread' },
  QStartNoAckMode: { kind: 'no-ack-mode' },
};

/** Of a packet's payload. Never throws. */
export function decodeCommand(payload: Uint8Array): GdbCommand {
  const text = Buffer.from(payload).toString('latin1');
  if (Object.hasOwn(WORDS, text)) return WORDS[text]!;
  const decode = DECODERS.find(([prefix]) => text.startsWith(prefix));
  return decode ? decode[1](text.slice(decode[0].length)) : UNSUPPORTED;
}

type Decoder = (rest: string) => GdbCommand;

/** By prefix; of two that match, the longer one comes first. */
const DECODERS: readonly (readonly [prefix: string, decode: Decoder])[] = [
  ['qSupported', (rest) => ({ kind: 'supported', features: rest.replace(/^:/, '').split(';') })],
  ['qXfer:', decodeRead],
  ['qThreadExtraInfo,', (rest) => withThread(rest, (thread) => ({ kind: 'thread-info', thread }))],
  ['qAttached', () => ({ kind: 'is-attached' })],
  ['qRcmd,', decodeMonitor],
  ['vCont;', decodeActions],
  ['vKill', () => ({ kind: 'kill' })],
  ['D', () => ({ kind: 'detach' })],
  ['G', decodeWriteRegisters],
  ['p', decodeReadRegister],
  ['P', decodeWriteRegister],
  ['m', decodeReadMemory],
  ['M', decodeWriteMemory],
  ['X', decodeWriteBinary],
  ['H', decodeSelect],
  ['T', (rest) => withThread(rest, (thread) => ({ kind: 'is-alive', thread }))],
  ['Z', (rest) => decodeBreakpoint('insert', rest)],
  ['z', (rest) => decodeBreakpoint('remove', rest)],
  ['c', (rest) => decodeOldResume('continue', rest)],
  ['s', (rest) => decodeOldResume('step', rest)],
];

function decodeRead(rest: string): GdbCommand {
  const match = /^(features|threads):read:([\w.-]{0,64}):([0-9a-f]{1,8}),([0-9a-f]{1,8})$/.exec(rest);
  if (!match) return UNSUPPORTED;
  const [, object, annex, offset, bytes] = match;
  return {
    kind: 'read-object',
    object: object as 'features' | 'threads',
    annex: annex!,
    offset: Number.parseInt(offset!, 16),
    bytes: Number.parseInt(bytes!, 16),
  };
}

function decodeMonitor(rest: string): GdbCommand {
  const bytes = fromHex(rest);
  return bytes ? { kind: 'monitor', line: Buffer.from(bytes).toString('latin1') } : MALFORMED;
}

/** `c`, `C05:2`, `s:1`, `r1000,1010:1`, `c:-1`, separated by semicolons. */
function decodeActions(rest: string): GdbCommand {
  const words = rest.split(';');
  if (words.length > MAX_ACTIONS) return MALFORMED;
  const actions = words.map(decodeAction);
  return actions.every((action) => action !== undefined) ? { kind: 'resume', actions } : MALFORMED;
}

function decodeAction(word: string): ResumeAction | undefined {
  const match =
    /^(c|s|[CS][0-9a-fA-F]{2}|r([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,16}))(?::(-?[0-9a-fA-F]+))?$/.exec(word);
  if (!match) return undefined;
  const thread = match[4] === undefined ? 'all' : parseThread(match[4]);
  if (thread === undefined) return undefined;
  if (match[2] !== undefined)
    return { kind: 'step', range: [BigInt(`0x${match[2]}`), BigInt(`0x${match[3]}`)], thread };
  return { kind: match[1]!.toLowerCase().startsWith('c') ? 'continue' : 'step', thread };
}

/** `c` and `s` of the time before vCont, which resume the thread that `Hc` selected: here, all. */
function decodeOldResume(kind: 'continue' | 'step', rest: string): GdbCommand {
  // With an address to resume at, which gdb sends by a register instead.
  return rest === '' ? { kind: 'resume', actions: [{ kind, thread: 'any' }] } : UNSUPPORTED;
}

function decodeWriteRegisters(rest: string): GdbCommand {
  const bytes = fromHex(rest);
  return bytes ? { kind: 'write-registers', bytes } : MALFORMED;
}

function decodeReadRegister(rest: string): GdbCommand {
  const register = parseNumber(rest, 0xffff);
  return register === undefined ? MALFORMED : { kind: 'read-register', register };
}

function decodeWriteRegister(rest: string): GdbCommand {
  const [number = '', value = ''] = rest.split('=', 2);
  const register = parseNumber(number, 0xffff);
  const bytes = fromHex(value);
  if (register === undefined || !bytes || bytes.length === 0) return MALFORMED;
  return { kind: 'write-register', register, bytes };
}

function decodeReadMemory(rest: string): GdbCommand {
  const place = parsePlace(rest, MAX_MEMORY_BYTES);
  return place ? { kind: 'read-memory', ...place } : MALFORMED;
}

function decodeWriteMemory(rest: string): GdbCommand {
  const [where = '', digits = ''] = rest.split(':', 2);
  const place = parsePlace(where, MAX_MEMORY_BYTES);
  const data = fromHex(digits);
  if (!place || data?.length !== place.bytes) return MALFORMED;
  return { kind: 'write-memory', address: place.address, data };
}

/** The payload's escapes are resolved already. */
function decodeWriteBinary(rest: string): GdbCommand {
  const colon = rest.indexOf(':');
  const place = colon < 0 ? undefined : parsePlace(rest.slice(0, colon), MAX_PACKET_BYTES);
  const data = Uint8Array.from(Buffer.from(rest.slice(colon + 1), 'latin1'));
  if (!place || data.length !== place.bytes) return MALFORMED;
  return { kind: 'write-memory', address: place.address, data };
}

function decodeSelect(rest: string): GdbCommand {
  const use = rest.startsWith('g') ? 'general' : rest.startsWith('c') ? 'continue' : undefined;
  if (!use) return UNSUPPORTED;
  return withThread(rest.slice(1), (thread) => ({ kind: 'select-thread', use, thread }));
}

/** `type,address,kind`, and conditions that Volt does not announce and gdb does not send. */
function decodeBreakpoint(kind: 'insert' | 'remove', rest: string): GdbCommand {
  const match = /^([0-9]),([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,4})(;.*)?$/s.exec(rest);
  if (!match) return MALFORMED;
  const type = BREAKPOINT_KINDS[Number(match[1])];
  if (!type) return UNSUPPORTED;
  const bytes = Number.parseInt(match[3]!, 16);
  if (bytes > MAX_WATCH_BYTES) return MALFORMED;
  return { kind, type, address: BigInt(`0x${match[2]}`), bytes };
}

function withThread(text: string, make: (thread: ThreadId) => GdbCommand): GdbCommand {
  const thread = parseThread(text);
  return thread === undefined ? MALFORMED : make(thread);
}

function parseThread(text: string): ThreadId | undefined {
  if (text === '-1') return 'all';
  const id = parseNumber(text, 0x7fff_ffff);
  return id === 0 ? 'any' : id;
}

function parsePlace(text: string, most: number): { address: bigint; bytes: number } | undefined {
  const match = /^([0-9a-fA-F]{1,16}),([0-9a-fA-F]{1,8})$/.exec(text);
  if (!match) return undefined;
  const bytes = Number.parseInt(match[2]!, 16);
  return bytes <= most ? { address: BigInt(`0x${match[1]}`), bytes } : undefined;
}

function parseNumber(text: string, most: number): number | undefined {
  if (!/^[0-9a-fA-F]{1,8}$/.test(text)) return undefined;
  const value = Number.parseInt(text, 16);
  return value <= most ? value : undefined;
}

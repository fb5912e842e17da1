/**
 * The control protocol: JSON-RPC 2.0 (jsonrpc.org/specification), one message per line. docs/control.md
 * documents it.
 *
 * Deviations from the specification: batches are refused, because several lines can be sent at once, and the
 * answer to one short batch could have megabytes; `params` is an object, never an array.
 */
import * as v from 'valibot';
import { MAX_CPUS } from '../../config/config.ts';
import { MAX_HOST_CPUS } from '../../machine/cpu-list.ts';
import { found } from '../../schema/values.ts';
import { IPI_MODES } from '../../smp/ipi.ts';
import { MP_STATE_NAMES } from '../../smp/vcpu-state.ts';
import { MAX_BALLOON_MIB } from '../../virtio/balloon/spec.ts';
import { exactId, type RawNumber } from './exact-id.ts';
import type { ClientAsk, VmEvent } from './target.ts';

/** Limit of a request, without its newline. */
export const MAX_LINE_BYTES = 64 * 1024;

export const ERROR_CODE = {
  parse: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internal: -32603,
  /** A valid request that failed or was refused: `data.code` is the VoltErrorCode. */
  refused: -32000,
} as const;

export type RequestId = string | number | RawNumber | null;

/** An event of the VM, or the number of events that a slow client has lost. */
export type ControlEvent = VmEvent | { readonly kind: 'dropped'; readonly count: number };

/** What the console tells its client: output as base64, bytes lost because they were not read, who types. */
export type ConsoleMessage =
  { readonly data: string } | { readonly lost: number } | { readonly writer: boolean };

const MAX_VCPU = MAX_CPUS - 1;
const SHOWN_CHARACTERS = 60;
/** Of one `console-input`. */
export const MAX_INPUT_BYTES = 4096;
const MAX_ID_CHARACTERS = 64;
/** PATH_MAX of Linux, without its NUL. */
const MAX_PATH_CHARACTERS = 4095;

const shown = (input: unknown) => (input === undefined ? 'missing' : found(input, SHOWN_CHARACTERS));

const expect = (expected: string) => (issue: v.BaseIssue<unknown>) =>
  `${shown(issue.input)} (expected ${expected})`;

function whole(expected: string, max: number) {
  const message = expect(expected);
  return v.pipe(v.number(message), v.integer(message), v.minValue(0, message), v.maxValue(max, message));
}

function listOf<const T extends v.GenericSchema<unknown, number>>(item: T, expected: string) {
  const message = expect(expected);
  return v.pipe(v.array(item, message), v.nonEmpty(message), v.maxLength(MAX_VCPU + 1, message));
}

function strict<const T extends v.ObjectEntries>(entries: T) {
  const names = Object.keys(entries).join(', ');
  return v.strictObject(entries, (issue) => {
    if (issue.expected === 'never') return `unknown parameter (expected ${names || 'none'})`;
    if (issue.expected === 'Object') return `${shown(issue.input)} (expected an object)`;
    return `missing (expected ${names})`;
  });
}

const vcpu = whole("a vCPU's index", MAX_VCPU);
const vcpus = listOf(vcpu, 'a list of at least one vCPU index');
const vector = whole('a vector from 0 to 255', 255);
const niceMessage = expect('a nice value from -20 to 19');
const nice = v.pipe(
  v.number(niceMessage),
  v.integer(niceMessage),
  v.minValue(-20, niceMessage),
  v.maxValue(19, niceMessage),
);
const hostCpus = listOf(
  whole(`a host CPU from 0 to ${MAX_HOST_CPUS - 1}`, MAX_HOST_CPUS - 1),
  'a list of at least one host CPU',
);
const destination = v.union(
  [vcpu, v.literal('all'), v.literal('all-but')],
  expect('a vCPU\'s index, "all" or "all-but"'),
);

const snapshotId = v.pipe(
  v.string(expect('32 hexadecimal digits')),
  v.regex(/^[0-9a-f]{32}$/, expect('32 hexadecimal digits')),
);
const directory = v.pipe(
  v.string(expect('the path of a directory')),
  v.nonEmpty(expect('the path of a directory')),
  v.maxLength(MAX_PATH_CHARACTERS, expect(`a path of at most ${MAX_PATH_CHARACTERS} characters`)),
);

/** Sections of a configuration file whose devices can be plugged. */
const PLUGGABLE_SECTIONS = ['drives', 'network-interfaces'] as const;
const deviceId = v.pipe(
  v.string(expect('the id of a device')),
  v.nonEmpty(expect('the id of a device')),
  v.maxLength(MAX_ID_CHARACTERS, expect(`an id of at most ${MAX_ID_CHARACTERS} characters`)),
);

const base64Message = expect('base64 of 1 to 4096 bytes');
const base64 = v.pipe(
  v.string(base64Message),
  v.base64(base64Message),
  v.nonEmpty(base64Message),
  v.maxLength(Math.ceil(MAX_INPUT_BYTES / 3) * 4, base64Message),
);

const IpiSchema = v.pipe(
  strict({
    destination,
    except: v.exactOptional(vcpu),
    mode: v.picklist(IPI_MODES, expect(IPI_MODES.join(', '))),
    vector: v.exactOptional(vector),
    level: v.exactOptional(v.boolean(expect('true or false'))),
    trigger: v.exactOptional(v.picklist(['edge', 'level'], expect('"edge" or "level"'))),
  }),
  v.check(
    (request) => (request.except === undefined) === (request.destination !== 'all-but'),
    'except is missing, or given without destination "all-but" (expected except with "all-but", and only then)',
  ),
);

/** Every method with the schema of its params. */
export const METHODS = {
  status: strict({}),
  vcpus: strict({ sample: v.exactOptional(v.boolean(expect('true or false'))) }),
  devices: strict({}),
  memory: strict({ mib: v.exactOptional(whole('a size of memory in MiB', MAX_BALLOON_MIB)) }),
  balloon: strict({ mib: v.exactOptional(whole('a size of the balloon in MiB', MAX_BALLOON_MIB)) }),
  regs: strict({ vcpu }),
  pause: strict({ vcpus: v.exactOptional(vcpus) }),
  resume: strict({ vcpus: v.exactOptional(vcpus) }),
  stop: strict({}),
  ipi: IpiSchema,
  nmi: strict({ vcpu: v.exactOptional(vcpu) }),
  'start-ap': strict({ vcpu, vector }),
  affinity: strict({ vcpu, cpus: hostCpus }),
  nice: strict({ vcpu, nice }),
  'mp-state': strict({
    vcpu,
    state: v.picklist(MP_STATE_NAMES, expect(MP_STATE_NAMES.join(', '))),
    vector: v.exactOptional(vector),
  }),
  cpus: strict({ count: whole('a number of vCPUs', MAX_CPUS) }),
  plug: strict({
    section: v.picklist(PLUGGABLE_SECTIONS, expect(PLUGGABLE_SECTIONS.join(' or '))),
    item: v.record(v.string(), v.unknown(), expect('an item of this section of a configuration file')),
    mtu: v.exactOptional(whole('the MTU of the tap', 65_535)),
  }),
  unplug: strict({ id: deviceId }),
  powerdown: strict({}),
  snapshot: strict({
    id: snapshotId,
    directory,
    base: v.exactOptional(snapshotId),
    live: v.exactOptional(v.boolean(expect('true or false'))),
    stop: v.exactOptional(v.boolean(expect('true or false'))),
  }),
  events: strict({}),
  config: strict({}),
  timeline: strict({}),
  console: strict({
    write: v.exactOptional(v.boolean(expect('true or false'))),
    take: v.exactOptional(v.boolean(expect('true or false'))),
    history: v.exactOptional(v.boolean(expect('true or false'))),
  }),
  'console-input': strict({ data: base64 }),
  dump: strict({}),
  trace: strict({ seconds: whole('seconds from 1 to 3600', 3600) }),
  gdb: strict({}),
} as const;

/** Name of a method of the control protocol. */
export type Method = keyof typeof METHODS;
/** Params of a method. */
export type ParamsOf<M extends Method> = v.InferOutput<(typeof METHODS)[M]>;

/** One call with validated params. */
export type Call = { [M in Method]: { readonly method: M; readonly params: ParamsOf<M> } }[Method];

export type Incoming =
  /** `id` is undefined for a notification, which gets no answer. */
  | { readonly kind: 'call'; readonly id: RequestId | undefined; readonly call: Call }
  | { readonly kind: 'refused'; readonly id: RequestId | undefined; readonly error: RpcError };

export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: { readonly code: string };
}

const idIssue = 'id is not a string, finite number or null';
const EnvelopeSchema = v.strictObject(
  {
    jsonrpc: v.literal('2.0', 'jsonrpc is not "2.0"'),
    id: v.exactOptional(v.nullable(v.union([v.string(), v.pipe(v.number(), v.finite(idIssue))], idIssue))),
    method: v.string('method is not a string'),
    params: v.exactOptional(v.unknown()),
  },
  (issue) => {
    if (issue.expected === 'Object') return 'it is not an object';
    return issue.expected === 'never'
      ? `unknown member ${shown(v.getDotPath(issue))}`
      : `${v.getDotPath(issue)} is missing`;
  },
);

const decoder = new TextDecoder('utf-8', { fatal: true });

/** Parses one line. Never throws: an invalid line becomes the error to answer with. */
export function parseRequest(line: Uint8Array): Incoming {
  let message: unknown;
  let text: string;
  try {
    text = decoder.decode(line);
    message = JSON.parse(text);
  } catch {
    return refused(null, ERROR_CODE.parse, 'Cannot read the line (expected one JSON object in UTF-8)');
  }
  if (Array.isArray(message)) {
    return refused(null, ERROR_CODE.invalidRequest, 'Cannot accept a batch (expected one request per line)');
  }
  const envelope = v.safeParse(EnvelopeSchema, message);
  if (!envelope.success) {
    const problem = envelope.issues[0].message;
    return refused(
      exactId(idOf(message), text) ?? null,
      ERROR_CODE.invalidRequest,
      `Cannot accept the request: ${problem} (expected jsonrpc, method, and optionally params and id)`,
    );
  }
  const { method, params = {} } = envelope.output;
  const id = exactId(envelope.output.id, text);
  if (!isMethod(method)) {
    return refused(
      id,
      ERROR_CODE.methodNotFound,
      `Cannot call ${shown(method)}: unknown method (expected ${Object.keys(METHODS).join(', ')})`,
    );
  }
  if (Array.isArray(params)) return badParams(id, method, 'params is an array (expected an object)');
  const checked = v.safeParse(METHODS[method], params);
  if (!checked.success) {
    const issue = checked.issues[0];
    const path = v.getDotPath(issue);
    return badParams(id, method, path === null ? issue.message : `${path}: ${issue.message}`);
  }
  // The schema belongs to this method, which the type of the table lookup does not express.
  return { kind: 'call', id, call: { method, params: checked.output } as Call };
}

function isMethod(name: string): name is Method {
  return Object.hasOwn(METHODS, name);
}

/** The id of a message that is not a valid request, if it has a usable one. */
function idOf(message: unknown): string | number | null {
  const id = (message as { readonly id?: unknown } | null)?.id;
  return typeof id === 'string' || (typeof id === 'number' && Number.isFinite(id)) ? id : null;
}

function badParams(id: RequestId | undefined, method: Method, problem: string): Incoming {
  return refused(id, ERROR_CODE.invalidParams, `Cannot call ${method}: ${problem}`);
}

function refused(id: RequestId | undefined, code: number, message: string): Incoming {
  return { kind: 'refused', id, error: { code, message } };
}

export function formatResult(id: RequestId, result: unknown): string {
  return `${JSON.stringify({ jsonrpc: '2.0', id, result: result ?? null })}\n`;
}

export function formatError(id: RequestId, error: RpcError): string {
  return `${JSON.stringify({ jsonrpc: '2.0', id, error })}\n`;
}

/** Asks the client of a call under way for something; it answers with a newline. */
export function formatAsk(ask: ClientAsk, params: object): string {
  return `${JSON.stringify({ jsonrpc: '2.0', method: ask, params })}\n`;
}

export function formatEvent(event: ControlEvent): string {
  return `${JSON.stringify({ jsonrpc: '2.0', method: 'event', params: event })}\n`;
}

export function formatConsole(message: ConsoleMessage): string {
  return `${JSON.stringify({ jsonrpc: '2.0', method: 'console', params: message })}\n`;
}

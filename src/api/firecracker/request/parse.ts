/** From a request's method, path and body to what it asks for. Pure; the answers to bad requests are Firecracker's. */
import { JsonFault, type JsonReader } from '../../../json/reader.ts';
import { parseShape, type Shape } from '../../../json/shapes.ts';
import { readValue, type JsonValue } from '../../../json/value.ts';
import { debugString } from '../../../json/text.ts';
import type { Action, ActionName, OperandOf, PluggableKind } from './action.ts';
import * as B from './bodies.ts';
import { CpuTemplate } from './cpu-template.ts';
import type { ApiCounter } from './counters.ts';

export const METHODS = ['GET', 'PUT', 'PATCH', 'DELETE'] as const;
export type Method = (typeof METHODS)[number];

/** A request whose body has arrived. `body` is undefined if its length is 0. */
export interface ApiRequest {
  readonly method: Method;
  /** The path with its query; empty if the target had none. */
  readonly path: string;
  readonly body: Uint8Array | undefined;
}

export type ParsedRequest =
  | {
      readonly kind: 'action';
      readonly action: Action;
      /** Why the request is deprecated. */
      readonly deprecation: string | undefined;
    }
  /** `log`: the error in the words of Firecracker's log. */
  | { readonly kind: 'refused'; readonly message: string; readonly log: string };

/** Counts a request or a failed one. */
export type Count = (counter: ApiCounter) => void;

class Refusal extends Error {
  readonly log: string;
  constructor(message: string, log = `Generic(BadRequest, ${debugString(message)})`) {
    super(message);
    this.log = log;
  }
}

interface Accepted {
  readonly action: Action;
  readonly deprecation?: string | undefined;
}

/** Never throws. */
export function parseRequest(request: ApiRequest, count: Count): ParsedRequest {
  try {
    const { action, deprecation } = route(request, count);
    if (deprecation !== undefined) count('deprecated_api.deprecated_http_api_calls');
    return { kind: 'action', action, deprecation };
  } catch (error) {
    if (error instanceof Refusal) return { kind: 'refused', message: error.message, log: error.log };
    if (error instanceof JsonFault) {
      const { message, text, line, column } = error;
      return {
        kind: 'refused',
        message: `An error occurred when deserializing the json body of a request: ${message}.`,
        log: `SerdeJson(Error(${debugString(text)}, line: ${line}, column: ${column}))`,
      };
    }
    throw error;
  }
}

/** A request as Firecracker's log describes it; `showTemplate`: with the body of /cpu-config. */
export function describeRequest({ method, path, body }: ApiRequest, showTemplate: boolean): string {
  const start = `${METHOD_WORDS[method]} request on ${debugString(path)}`;
  if (body === undefined || path === '/mmds') return start;
  if (path === '/cpu-config' && !showTemplate)
    return `${start}. To view the CPU template received by the API, configure log-level to DEBUG`;
  return `${start} with body ${debugString(utf8(body) ?? 'inconvertible to UTF-8')}`;
}

const METHOD_WORDS: Readonly<Record<Method, string>> = {
  GET: 'Get',
  PUT: 'Put',
  PATCH: 'Patch',
  DELETE: 'Delete',
};

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function act<Name extends ActionName>(name: Name, operand: OperandOf<Name>, deprecation?: string): Accepted {
  return { action: { name, operand } as Action, deprecation };
}

function route({ method, path, body }: ApiRequest, count: Count): Accepted {
  const [first = '', ...rest] = splitPath(path);
  const [second, third] = rest;
  const unknown = () =>
    new Refusal(
      `Invalid request method and/or path: ${method} ${first}.`,
      `InvalidPathMethod(${debugString(first)}, ${METHOD_WORDS[method]})`,
    );
  switch (method) {
    case 'GET':
      if (body) throw new Refusal('GET request cannot have a body.');
      return get(first, second, third, count) ?? fail(unknown());
    case 'PUT':
      if (!body) throw new Refusal('Empty PUT request.');
      return put(first, second, body, count) ?? fail(unknown());
    case 'PATCH':
      if (first === 'balloon') return patchBalloon(second, third, body);
      if (!body) throw new Refusal('Empty PATCH request.');
      return patch(first, second, body, count) ?? fail(unknown());
    case 'DELETE':
      if (body) throw new Refusal('Empty Delete request.');
      return unplug(first, second) ?? fail(unknown());
  }
}

function fail(error: Error): never {
  throw error;
}

/** The path's words: an empty one at its end is none. (Rust, `str::split_terminator`) */
function splitPath(path: string): string[] {
  const trimmed = path.replace(/^\/+/, '');
  if (trimmed === '') return [];
  const words = trimmed.split('/');
  return words.at(-1) === '' ? words.slice(0, -1) : words;
}

function get(
  first: string,
  second: string | undefined,
  third: string | undefined,
  count: Count,
): Accepted | undefined {
  switch (first) {
    case '':
      count('get_api_requests.instance_info_count');
      return act('GetVmInstanceInfo', undefined);
    case 'balloon':
      return getBalloon(second, third);
    case 'version':
      count('get_api_requests.vmm_version_count');
      return act('GetVmmVersion', undefined);
    case 'vm':
      return second === 'config' ? act('GetFullVmConfig', undefined) : undefined;
    case 'machine-config':
      count('get_api_requests.machine_cfg_count');
      return act('GetVmMachineConfig', undefined);
    case 'mmds':
      count('get_api_requests.mmds_count');
      return act('GetMmds', undefined);
    case 'hotplug':
      if (second !== 'memory') return undefined;
      count('get_api_requests.hotplug_memory_count');
      return act('GetMemoryHotplugStatus', undefined);
    default:
      return undefined;
  }
}

function getBalloon(second: string | undefined, third: string | undefined): Accepted {
  if (second === undefined) return act('GetBalloonConfig', undefined);
  if (second === 'statistics') return act('GetBalloonStats', undefined);
  if (second !== 'hinting') throw new Refusal(`Unrecognized GET request path \`${second}\`.`);
  if (third === 'status') return act('GetFreePageHintingStatus', undefined);
  throw new Refusal(`Unrecognized GET request path \`/hinting/${third ?? ''}\`.`);
}

function patchBalloon(
  second: string | undefined,
  third: string | undefined,
  body: Uint8Array | undefined,
): Accepted {
  if (second === 'hinting') {
    if (third === 'stop') return act('StopFreePageHinting', undefined);
    if (third !== 'start') throw new Refusal(`Unrecognized PATCH request path \`/hinting/${third ?? ''}\`.`);
    return act(
      'StartFreePageHinting',
      body ? parseShape(body, B.StartHinting) : { acknowledge_on_stop: true },
    );
  }
  if (!body) throw new Refusal('Empty PATCH request.');
  return second === 'statistics'
    ? act('UpdateBalloonStatistics', parseShape(body, B.BalloonStatsUpdate))
    : act('UpdateBalloon', parseShape(body, B.BalloonUpdate));
}

function put(
  first: string,
  second: string | undefined,
  body: Uint8Array,
  count: Count,
): Accepted | undefined {
  const parse = <T>(shape: Shape<T>, counters: CounterPair): T => counted(count, counters, body, shape);
  switch (first) {
    case 'actions': {
      const { action_type: type } = parse(B.Action, 'put_api_requests.actions');
      const names = {
        FlushMetrics: 'FlushMetrics',
        InstanceStart: 'StartMicroVm',
        SendCtrlAltDel: 'SendCtrlAltDel',
      } as const;
      return act(names[type], undefined);
    }
    case 'balloon':
      return act('SetBalloonDevice', parseShape(body, B.Balloon));
    case 'boot-source':
      return act('ConfigureBootSource', parse(B.BootSource, 'put_api_requests.boot_source'));
    case 'cpu-config':
      return act('PutCpuConfiguration', parse(CpuTemplate, 'put_api_requests.cpu_cfg'));
    case 'drives':
      return act('InsertBlockDevice', identified(B.Drive, 'drive_id', SAME_ID, 'put_api_requests.drive'));
    case 'pmem':
      return act('InsertPmemDevice', identified(B.Pmem, 'id', SAME_ID, 'put_api_requests.pmem'));
    case 'network-interfaces':
      return act(
        'InsertNetworkDevice',
        identified(B.NetworkInterface, 'iface_id', sameInterface, 'put_api_requests.network'),
      );
    case 'logger':
      return act('ConfigureLogger', parse(B.Logger, 'put_api_requests.logger'));
    case 'serial':
      return act('ConfigureSerial', parse(B.Serial, 'put_api_requests.serial'));
    case 'machine-config': {
      const config = parse(B.MachineConfig, 'put_api_requests.machine_cfg');
      const isOld = config.cpu_template !== null;
      return act(
        'UpdateMachineConfiguration',
        config,
        isOld ? 'PUT /machine-config: cpu_template field is deprecated.' : undefined,
      );
    }
    case 'metrics':
      return act('ConfigureMetrics', parse(B.Metrics, 'put_api_requests.metrics'));
    case 'mmds':
      return putMmds(second, body, count);
    case 'snapshot':
      return putSnapshot(second, body);
    case 'vsock': {
      const vsock = parse(B.Vsock, 'put_api_requests.vsock');
      const isOld = vsock.vsock_id !== null;
      return act('SetVsockDevice', vsock, isOld ? 'PUT /vsock: vsock_id field is deprecated.' : undefined);
    }
    case 'entropy':
      return act('SetEntropyDevice', parseShape(body, B.Entropy));
    case 'hotplug':
      if (second !== 'memory') return undefined;
      return act('SetMemoryHotplugDevice', parse(B.MemoryHotplug, 'put_api_requests.hotplug_memory'));
    default:
      return undefined;
  }

  function identified<Key extends string, T extends Readonly<Record<Key, unknown>>>(
    shape: Shape<T>,
    key: Key,
    differs: (inPath: string, inBody: string) => string,
    counters: CounterPair,
  ): T {
    return withId({ id: second, body, shape, key, differs, counters, count });
  }
}

function patch(
  first: string,
  second: string | undefined,
  body: Uint8Array,
  count: Count,
): Accepted | undefined {
  const common = { id: second, body, count };
  switch (first) {
    case 'drives':
      return act(
        'UpdateBlockDevice',
        withId({
          ...common,
          ...{ shape: B.DriveUpdate, key: 'drive_id', differs: SAME_ID },
          counters: 'patch_api_requests.drive',
        }),
      );
    case 'pmem':
      return act(
        'UpdatePmemDevice',
        withId({
          ...common,
          ...{ shape: B.PmemUpdate, key: 'id', differs: SAME_ID },
          counters: 'patch_api_requests.pmem',
        }),
      );
    case 'network-interfaces':
      return act(
        'UpdateNetworkInterface',
        withId({
          ...common,
          ...{ shape: B.NetworkInterfaceUpdate, key: 'iface_id', differs: sameInterface },
          counters: 'patch_api_requests.network',
        }),
      );
    case 'machine-config': {
      const update = counted(count, 'patch_api_requests.machine_cfg', body, B.MachineConfigUpdate);
      if (Object.values(update).every((value) => value === null)) throw new Refusal('Empty PATCH request.');
      const isOld = update.cpu_template !== null;
      return act(
        'UpdateMachineConfiguration',
        update,
        isOld ? 'PATCH /machine-config: cpu_template field is deprecated.' : undefined,
      );
    }
    case 'mmds':
      return act('PatchMmds', counted(count, 'patch_api_requests.mmds', body, ANY));
    case 'vm':
      return parseShape(body, B.Vm).state === 'Paused' ? act('Pause', undefined) : act('Resume', undefined);
    case 'hotplug':
      if (second !== 'memory') return undefined;
      return act(
        'UpdateMemoryHotplugSize',
        counted(count, 'patch_api_requests.hotplug_memory', body, B.MemoryHotplugUpdate),
      );
    default:
      return undefined;
  }
}

const PLUGGABLE: Readonly<Record<string, PluggableKind>> = {
  drives: 'block',
  pmem: 'pmem',
  'network-interfaces': 'net',
};

function unplug(first: string, second: string | undefined): Accepted | undefined {
  const kind = Object.hasOwn(PLUGGABLE, first) ? PLUGGABLE[first] : undefined;
  return kind && act('HotUnplugDevice', { kind, id: checkedId(second) });
}

function putMmds(second: string | undefined, body: Uint8Array, count: Count): Accepted {
  count('put_api_requests.mmds_count');
  const parse = <T>(shape: Shape<T>) => failing(count, 'put_api_requests.mmds_fails', body, shape);
  if (second === undefined) return act('PutMmds', parse(ANY));
  if (second === 'config') {
    const config = parse(B.MmdsConfig);
    const isOld = config.version === 'V1';
    return act(
      'SetMmdsConfiguration',
      config,
      isOld ? 'PUT /mmds/config: V1 is deprecated. Use V2 instead.' : undefined,
    );
  }
  count('put_api_requests.mmds_fails');
  throw new Refusal(`Unrecognized PUT request path \`${second}\`.`);
}

function putSnapshot(second: string | undefined, body: Uint8Array): Accepted {
  if (second === undefined) throw new Refusal('Missing snapshot operation type.');
  if (second === 'create') return act('CreateSnapshot', parseShape(body, B.SnapshotCreate));
  if (second !== 'load') {
    const where = `/snapshot/${second}`;
    throw new Refusal(
      `Invalid request method and/or path: PUT ${where}.`,
      `InvalidPathMethod(${debugString(where)}, Put)`,
    );
  }
  const load = parseShape(body, B.SnapshotLoad);
  const { mem_file_path: file, mem_backend: backend, enable_diff_snapshots: diff, ...rest } = load;
  if (backend && file !== null)
    throw new JsonFault('too many fields: either `mem_backend` or `mem_file_path` exclusively is required');
  const memory =
    backend ?? (file === null ? undefined : { backend_path: file, backend_type: 'File' as const });
  if (!memory) throw new JsonFault('missing field: either `mem_backend` or `mem_file_path` is required');
  return act(
    'LoadSnapshot',
    { ...rest, mem_backend: memory, track_dirty_pages: diff || rest.track_dirty_pages },
    file !== null || diff
      ? 'PUT /snapshot/load: mem_file_path and enable_diff_snapshots fields are deprecated.'
      : undefined,
  );
}

const ANY: Shape<JsonValue> = { read: (reader: JsonReader) => readValue(reader) };

/** Counters of requests of a kind, without `_count` and `_fails`. */
type CounterPair = {
  [Name in ApiCounter]: Name extends `${infer Pair}_fails` ? Pair : never;
}[ApiCounter];

function counted<T>(count: Count, counters: CounterPair, body: Uint8Array, shape: Shape<T>): T {
  count(`${counters}_count`);
  return failing(count, `${counters}_fails`, body, shape);
}

function failing<T>(count: Count, fails: ApiCounter, body: Uint8Array, shape: Shape<T>): T {
  try {
    return parseShape(body, shape);
  } catch (error) {
    count(fails);
    throw error;
  }
}

interface Identified<Key extends string, T> {
  /** The id in the path. */
  readonly id: string | undefined;
  readonly body: Uint8Array;
  readonly shape: Shape<T>;
  /** The body's field that repeats the id. */
  readonly key: Key;
  readonly differs: (inPath: string, inBody: string) => string;
  readonly counters: CounterPair;
  readonly count: Count;
}

function withId<Key extends string, T extends Readonly<Record<Key, unknown>>>({
  id,
  body,
  shape,
  key,
  differs,
  counters,
  count,
}: Identified<Key, T>): T {
  count(`${counters}_count`);
  if (id === undefined) count(`${counters}_fails`);
  const checked = checkedId(id);
  const value = failing(count, `${counters}_fails`, body, shape);
  if (value[key] !== checked) {
    count(`${counters}_fails`);
    throw new Refusal(differs(checked, String(value[key])));
  }
  return value;
}

const SAME_ID = () => 'The id from the path does not match the id from the body!';
const sameInterface = (inPath: string, inBody: string) =>
  `The id from the path [${inPath}] does not match the id from the body [${inBody}]!`;

function checkedId(id: string | undefined): string {
  if (id === undefined || id === '') throw new Refusal('The ID cannot be empty.', 'EmptyID');
  // Rust's char::is_alphanumeric: Alphabetic, or one of the categories of numbers.
  if (!/^[\p{Alphabetic}\p{N}_]+$/u.test(id))
    throw new Refusal(
      'API Resource IDs can only contain alphanumeric characters and underscores.',
      'InvalidID',
    );
  return id;
}

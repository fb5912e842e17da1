import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  formatError,
  METHODS,
  parseRequest,
  type RequestId,
  type RpcError,
} from '../../../src/api/control/protocol.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const parse = (text: string) => parseRequest(Buffer.from(text, 'utf8'));
const call = (method: string, params?: unknown) =>
  parse(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }));

describe('requests that are taken', () => {
  test.each([
    ['status', undefined],
    ['status', {}],
    ['vcpus', {}],
    ['devices', {}],
    ['balloon', {}],
    ['balloon', { mib: 128 }],
    ['regs', { vcpu: 0 }],
    ['pause', {}],
    ['pause', { vcpus: [0, 3] }],
    ['resume', { vcpus: [1] }],
    ['stop', {}],
    ['ipi', { destination: 1, mode: 'fixed', vector: 48 }],
    ['ipi', { destination: 'all', mode: 'nmi' }],
    ['ipi', { destination: 'all-but', except: 0, mode: 'init', level: false, trigger: 'level' }],
    ['nmi', {}],
    ['nmi', { vcpu: 1 }],
    ['start-ap', { vcpu: 1, vector: 8 }],
    ['affinity', { vcpu: 1, cpus: [0, 1023] }],
    ['mp-state', { vcpu: 1, state: 'init-received' }],
    ['mp-state', { vcpu: 1, state: 'sipi-received', vector: 255 }],
    ['cpus', { count: 3 }],
    ['powerdown', {}],
    ['events', {}],
  ])('%s %j', (method, params) => {
    const incoming = call(method, params);
    expect(incoming).toEqual({ kind: 'call', id: 1, call: { method, params: params ?? {} } } as never);
  });

  test.each(['12345678901234567890', '9007199254740993', '-0.10000000000000000001', '7'])(
    'the id %s is given back as it was written',
    (id) => {
      const nested = `{"jsonrpc":"2.0","method":"frob","params":{"id":1},"id":${id}}`;
      const incoming = parse(nested) as { id: RequestId; error: RpcError };

      expect(formatError(incoming.id, incoming.error)).toStartWith(`{"jsonrpc":"2.0","id":${id},"error":`);
    },
  );

  test('ids are texts, numbers and null; without one nobody answers', () => {
    const ids = ['"a"', '-1.5', 'null'].map(
      (id) => parse(`{"jsonrpc":"2.0","id":${id},"method":"status"}`).id,
    );
    expect(ids).toEqual(['a', -1.5, null]);
    expect(parse('{"jsonrpc":"2.0","method":"status"}').id).toBeUndefined();
  });

  test('white space around a message and a CR at its end do not matter', () => {
    expect(parse(' {"jsonrpc":"2.0","id":1,"method":"status"} \r').kind).toBe('call');
  });
});

/** The line, the error's code, a part of its message. The id that is answered is 1 where the line has it, or null. */
const BAD_LINES: readonly [string, number, string][] = [
  ['', -32700, 'expected one JSON object in UTF-8'],
  ['{', -32700, 'Cannot read the line'],
  ['hello', -32700, 'Cannot read the line'],
  ['{"jsonrpc":"2.0","id":1,"method":"status"}{}', -32700, 'Cannot read the line'],
  ['[]', -32600, 'Cannot accept a batch'],
  ['[{"jsonrpc":"2.0","id":1,"method":"status"}]', -32600, 'one request per line'],
  ['null', -32600, 'it is not an object'],
  ['3', -32600, 'it is not an object'],
  ['"status"', -32600, 'it is not an object'],
  ['{}', -32600, 'jsonrpc is missing'],
  ['{"id":1,"method":"status"}', -32600, 'jsonrpc is missing'],
  ['{"jsonrpc":"1.0","id":1,"method":"status"}', -32600, 'jsonrpc is not "2.0"'],
  ['{"jsonrpc":2,"id":1,"method":"status"}', -32600, 'jsonrpc is not "2.0"'],
  ['{"jsonrpc":"2.0","id":1}', -32600, 'method is missing'],
  ['{"jsonrpc":"2.0","id":1,"method":7}', -32600, 'method is not a string'],
  ['{"jsonrpc":"2.0","id":{},"method":"status"}', -32600, 'id is not a string'],
  ['{"jsonrpc":"2.0","id":true,"method":"status"}', -32600, 'id is not a string'],
  ['{"jsonrpc":"2.0","id":1e999,"method":"status"}', -32600, 'id is not a string'],
  ['{"jsonrpc":"2.0","id":1,"method":"status","extra":1}', -32600, 'unknown member "extra"'],
  ['{"jsonrpc":"2.0","id":1,"method":"reboot"}', -32601, 'Cannot call "reboot": unknown method'],
  ['{"jsonrpc":"2.0","id":1,"method":"toString"}', -32601, 'unknown method'],
  ['{"jsonrpc":"2.0","id":1,"method":"__proto__"}', -32601, 'unknown method'],
  ['{"jsonrpc":"2.0","id":1,"method":""}', -32601, 'unknown method (expected status, vcpus'],
];

describe('lines that are no request', () => {
  test.each(BAD_LINES)('%p', (line, code, message) => {
    const incoming = parse(line);
    expect(incoming.kind).toBe('refused');
    expect(incoming).toMatchObject({ error: { code } });
    expect(incoming).toHaveProperty('error.message', expect.stringContaining(message));
    expect(incoming.id).toBe(code !== -32700 && /^\{.*"id":1[,}]/.test(line) ? 1 : null);
  });

  test('bytes that are not UTF-8 are no JSON', () => {
    const line = Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]);
    expect(parseRequest(line)).toMatchObject({ id: null, error: { code: -32700 } });
  });

  test('nesting that no parser can follow is an error like any other', () => {
    expect(parse('['.repeat(60_000))).toMatchObject({ id: null, error: { code: -32700 } });
    const deep = `{"jsonrpc":"2.0","id":1,"method":"status","params":{"a":${'['.repeat(30_000)}${']'.repeat(30_000)}}}`;
    expect(parse(deep).kind).toBe('refused');
  });

  test('a long method name does not come back whole', () => {
    const incoming = parse(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'x'.repeat(50_000) }));
    expect(JSON.stringify(incoming).length).toBeLessThan(500);
  });
});

const WHOLE_VCPU = "(expected a vCPU's index)";

const BAD_PARAMS: readonly [string, unknown, string][] = [
  ['status', [], 'params is an array'],
  ['status', null, 'null (expected an object)'],
  ['status', 7, '7 (expected an object)'],
  ['status', { vcpu: 1 }, 'vcpu: unknown parameter (expected none)'],
  ['status', JSON.parse('{"__proto__":1}'), '__proto__: unknown parameter'],
  ['regs', undefined, 'vcpu: missing (expected vcpu)'],
  ['regs', [0], 'params is an array'],
  ['regs', { vcpu: '0' }, `vcpu: "0" ${WHOLE_VCPU}`],
  ['regs', { vcpu: -1 }, `vcpu: -1 ${WHOLE_VCPU}`],
  ['regs', { vcpu: 1.5 }, `vcpu: 1.5 ${WHOLE_VCPU}`],
  ['regs', { vcpu: 65_536 }, WHOLE_VCPU],
  ['regs', { vcpu: null }, `vcpu: null ${WHOLE_VCPU}`],
  ['regs', { vcpu: 0, vcpus: [0] }, 'vcpus: unknown parameter (expected vcpu)'],
  ['pause', { vcpus: 1 }, 'vcpus: 1 (expected a list of at least one vCPU index)'],
  ['pause', { vcpus: [] }, 'vcpus: [] (expected'],
  ['pause', { vcpus: [0, 'x'] }, `vcpus.1: "x" ${WHOLE_VCPU}`],
  ['pause', { vcpus: null }, 'vcpus: null'],
  ['resume', { vcpu: 1 }, 'vcpu: unknown parameter (expected vcpus)'],
  ['ipi', {}, 'destination: missing'],
  ['ipi', { destination: 1 }, 'mode: missing'],
  ['ipi', { destination: 'some', mode: 'nmi' }, 'destination: "some" (expected a vCPU\'s index, "all"'],
  ['ipi', { destination: 1, mode: 'smi' }, 'mode: "smi" (expected fixed, lowest-priority, nmi'],
  ['ipi', { destination: 1, mode: 'fixed', vector: 256 }, 'vector: 256 (expected a vector from 0 to 255)'],
  ['ipi', { destination: 1, mode: 'fixed', level: 1 }, 'level: 1 (expected true or false)'],
  ['ipi', { destination: 1, mode: 'fixed', trigger: 'up' }, 'trigger: "up" (expected "edge" or "level")'],
  [
    'ipi',
    { destination: 'all-but', mode: 'nmi' },
    'except is missing, or given without destination "all-but"',
  ],
  [
    'ipi',
    { destination: 'all', except: 1, mode: 'nmi' },
    'except is missing, or given without destination "all-but"',
  ],
  ['nmi', { vcpu: 'all' }, `vcpu: "all" ${WHOLE_VCPU}`],
  ['start-ap', { vcpu: 1 }, 'vector: missing'],
  ['cpus', {}, 'count: missing'],
  ['cpus', { count: -1 }, 'count: -1'],
  ['cpus', { count: 1.5 }, 'count: 1.5'],
  ['start-ap', { vcpu: 1, vector: -1 }, 'vector: -1'],
  ['affinity', { vcpu: 1, cpus: [] }, 'cpus: [] (expected a list of at least one host CPU'],
  ['affinity', { vcpu: 1, cpus: [1024] }, 'cpus.0: 1024 (expected a host CPU from 0 to 1023)'],
  ['affinity', { vcpu: 1, cpus: '0-1' }, 'cpus: "0-1"'],
  ['nice', { vcpu: 1, nice: 20 }, 'nice: 20 (expected a nice value from -20 to 19)'],
  ['nice', { vcpu: 1, nice: -21 }, 'nice: -21 (expected a nice value from -20 to 19)'],
  ['mp-state', { vcpu: 1, state: 'asleep' }, 'state: "asleep" (expected runnable, uninitialized'],
  [
    'mp-state',
    { vcpu: 1, state: 'sipi-received', vector: 256 },
    'vector: 256 (expected a vector from 0 to 255)',
  ],
  ['events', { from: 0 }, 'from: unknown parameter'],
];

describe('params that do not fit', () => {
  test.each(BAD_PARAMS)('%s %j', (method, params, message) => {
    const incoming = call(method, params);
    expect(incoming).toMatchObject({ kind: 'refused', id: 1, error: { code: -32602 } });
    expect(incoming).toHaveProperty('error.message', expect.stringContaining(message));
    expect(incoming).toHaveProperty('error.message', expect.stringContaining(`Cannot call ${method}: `));
  });

  test('a large value does not come back whole', () => {
    expect(JSON.stringify(call('regs', { vcpu: 'x'.repeat(50_000) })).length).toBeLessThan(500);
  });
});

test('every method refuses a parameter that it does not know', () => {
  const codes = Object.keys(METHODS).map((method) => call(method, { surprise: 1 }));
  expect(codes.every((incoming) => incoming.kind === 'refused' && incoming.error.code === -32602)).toBe(true);
});

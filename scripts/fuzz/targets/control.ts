/** Lines on the control socket, one by one and in a session. */
import { createDispatch } from '../../../src/api/control/dispatch.ts';
import { METHODS, parseRequest } from '../../../src/api/control/protocol.ts';
import { ClientSession, type SessionSocket } from '../../../src/api/control/session.ts';
import { FakeTarget } from '../../../test/unit/api/control-support.ts';
import { choicesOf, kindOf, type FuzzTarget } from '../target.ts';

const REQUESTS = [
  { method: 'status' },
  { method: 'vcpus', params: { sample: true } },
  { method: 'regs', params: { vcpu: 1 } },
  { method: 'pause', params: { vcpus: [0, 1] } },
  { method: 'ipi', params: { destination: 'all-but', except: 1, mode: 'fixed', vector: 64, level: true } },
  { method: 'start-ap', params: { vcpu: 1, vector: 8 } },
  { method: 'affinity', params: { vcpu: 0, cpus: [0, 1] } },
  { method: 'mp-state', params: { vcpu: 0, state: 'halted' } },
  { method: 'nice', params: { vcpu: 0, nice: -5 } },
  { method: 'cpus', params: { count: 3 } },
  { method: 'snapshot', params: { id: 'a'.repeat(32), directory: '/srv', base: 'b'.repeat(32), live: true } },
  { method: 'events', params: {} },
  { method: 'config' },
  { method: 'console', params: { write: true, take: true, history: false } },
  { method: 'console-input', params: { data: 'cG93ZXJvZmYK' } },
].map((request, id) => JSON.stringify({ jsonrpc: '2.0', id, ...request }));

const WORDS = [
  ...Object.keys(METHODS).map((method) => `"method":"${method}"`),
  ...[
    '"params":{',
    '"params":[',
    '"id":null',
    '"id":1e999',
    '"jsonrpc":"2.0"',
    '"__proto__":{',
    '\n',
    '\r\n',
    '\\u0000',
  ],
  ...['['.repeat(2000), '{"a":'.repeat(2000), '\xff', '-1', '1.5', '"all"', 'true', '}', ']'],
];

export const controlTarget: FuzzTarget = {
  name: 'control',
  what: 'requests of the control socket',
  seeds: () => REQUESTS.map((text) => Buffer.from(text)),
  words: WORDS,
  run: (input) => {
    const incoming = parseRequest(input);
    if (incoming.kind === 'call') return `call ${incoming.call.method} ${Object.keys(incoming.call.params)}`;
    const { code, message } = incoming.error;
    if (message.includes('\n')) throw new Error(`an answer of several lines: ${message}`);
    return `${code} ${kindOf(message)}`;
  },
};

const DELIMITER = 0x0a;
/** A session that has not ended after so many turns of the event loop never will. */
const MOST_TURNS = 2000;

/** A client that reads as it likes, and keeps what it read. */
class FakeSocket implements SessionSocket {
  ended = false;
  text = '';
  readonly #choose: (limit: number) => number;

  constructor(choose: (limit: number) => number) {
    this.#choose = choose;
  }

  write(bytes: Uint8Array): number {
    const count = this.#choose(4) === 0 ? this.#choose(bytes.length + 1) : bytes.length;
    this.text += Buffer.from(bytes.subarray(0, count)).toString('latin1');
    return this.#choose(64) === 0 && count === 0 ? -1 : count;
  }

  end(): void {
    this.ended = true;
  }

  terminate(): void {
    this.ended = true;
  }

  pause(): void {}
  resume(): void {}
}

export const sessionTarget: FuzzTarget = {
  name: 'session',
  what: 'bytes of a client of the control socket, in pieces, with a client that reads slowly',
  seeds: () => [REQUESTS.join('\n'), ...REQUESTS.map((text) => `${text}\n`)].map((text) => Buffer.from(text)),
  words: WORDS,
  run: async (input) => {
    const choose = choicesOf(input.subarray(0, 64));
    const target = new FakeTarget();
    const socket = new FakeSocket(choose);
    const session = new ClientSession(socket, {
      dispatch: createDispatch(target),
      onEvent: (listener) => target.onEvent(listener),
      console: () => target.console,
      attachGdb: () => target.attachGdb(),
    });
    for (let at = 0; at < input.length && !socket.ended;) {
      const end = at + 1 + choose(choose(2) ? 40 : input.length);
      session.received(input.subarray(at, end));
      at = end;
      if (choose(8) === 0) await Promise.resolve();
    }
    session.inputEnded();
    for (let turn = 0; !socket.ended && target.listeners.size === 0 && target.console.readers === 0; turn++) {
      if (turn > MOST_TURNS) throw new Error('the session never ends');
      if (turn % 8 === 7) await new Promise((resolve) => setImmediate(resolve));
      else await Promise.resolve();
      session.drained();
    }
    for (let turn = 0; turn < 4; turn++) session.drained();
    session.closed();
    if (target.listeners.size > 0) throw new Error('a listener was left behind');
    const lines = socket.text.split('\n').filter((line) => line !== '');
    const whole = socket.text.charCodeAt(socket.text.length - 1) === DELIMITER ? lines : lines.slice(0, -1);
    const codes = new Set(
      whole.map((line) => (JSON.parse(line) as { error?: { code: number } }).error?.code ?? 0),
    );
    return `${[...codes].sort()} ${new Set(target.calls.map((call) => call.split(' ')[0])).size}`;
  },
};

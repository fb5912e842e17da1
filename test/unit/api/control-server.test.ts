/** The control socket over real Unix sockets, with a VM that only remembers. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { lstatSync, readdirSync } from 'node:fs';
import { SyscallError } from '../../../src/ffi/errno.ts';
import { closeStream, connectStream, sendBytes } from '../../../src/ffi/unix-stream.ts';
import { MAX_CLIENTS, serveControl, type ControlServer } from '../../../src/api/control/server.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { mutate, seededRandom } from '../support/random.ts';
import {
  FAKE_REGISTERS,
  FAKE_STATUS,
  FakeTarget,
  fakeVcpu,
  RawClient,
  settled,
  SocketFolder,
  until,
  type Message,
} from './control-support.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

let folder: SocketFolder;
let target: FakeTarget;
let server: ControlServer;

beforeEach(async () => {
  folder = new SocketFolder();
  target = new FakeTarget();
  server = await serveControl(target, folder.at('vm.sock'));
});

afterEach(async () => {
  await server.close();
  folder[Symbol.dispose]();
});

const connect = () => RawClient.connect(server.path);
const done = { ok: true };
const statusLine = (id: number) => `{"jsonrpc":"2.0","id":${id},"method":"status"}\n`;

describe('methods', () => {
  test.each([
    ['status', undefined, ['status'], FAKE_STATUS],
    ['vcpus', undefined, ['vcpus'], [0, 1].map((i) => JSON.parse(JSON.stringify(fakeVcpu(i))) as unknown)],
    ['regs', { vcpu: 1 }, ['registers 1'], FAKE_REGISTERS],
    ['pause', undefined, ['pause', 'paused'], done],
    ['pause', { vcpus: [1] }, ['pause [1]', 'paused'], done],
    ['resume', undefined, ['resume'], done],
    ['resume', { vcpus: [0, 1] }, ['resume [0,1]'], done],
    ['stop', undefined, ['stop'], done],
    [
      'ipi',
      { destination: 'all-but', except: 0, mode: 'fixed', vector: 48, level: true, trigger: 'edge' },
      [
        'sendIpi {"destination":"all-but","except":0,"mode":"fixed","vector":48,"level":true,"trigger":"edge"}',
      ],
      done,
    ],
    ['nmi', undefined, ['sendIpi {"destination":"all","mode":"nmi"}'], done],
    ['nmi', { vcpu: 1 }, ['sendIpi {"destination":1,"mode":"nmi"}'], done],
    ['start-ap', { vcpu: 1, vector: 8 }, ['startAp 1 8'], done],
    ['affinity', { vcpu: 1, cpus: [0, 3] }, ['setAffinity 1 [0,3]'], done],
    ['nice', { vcpu: 1, nice: -5 }, ['setNice 1 -5'], done],
    ['mp-state', { vcpu: 1, state: 'halted' }, ['setMpState 1 "halted"'], done],
    ['powerdown', undefined, ['powerDown'], done],
    ['cpus', { count: 3 }, ['setCpuCount 3'], { present: 3, added: [2], removed: [], unanswered: [] }],
    ['events', undefined, [], { subscribed: true }],
  ] as const)('%s %j', async (method, params, calls, result) => {
    const client = await connect();
    expect(await client.answer(method, params)).toEqual({ jsonrpc: '2.0', id: 'answer', result });
    expect(target.calls).toEqual([...calls]);
  });

  test('a refusal carries the words and the code of the VoltError, without line breaks', async () => {
    target.failure = new VoltError('usage', 'Cannot find vCPU 9\n  (expected 0 to 1)');
    const client = await connect();
    const { error } = (await client.answer('regs', { vcpu: 9 }))!;
    expect(error).toEqual({
      code: -32000,
      message: 'Cannot find vCPU 9 (expected 0 to 1)',
      data: { code: 'usage' },
    });
  });

  test.each([
    ['SyscallError', new SyscallError('ioctl', 22), -32000, 'ioctl failed: EINVAL'],
    [
      'TypeError',
      new TypeError('x is not a function'),
      -32603,
      'x is not a function; this is a defect of Volt',
    ],
    ['text', 'a text', -32603, 'a text'],
    ['null', null, -32603, 'null'],
  ])('a target that throws a %s is an error, not the end', async (_name, failure, code, message) => {
    target.failure = failure;
    const client = await connect();
    for (const method of ['status', 'vcpus', 'stop', 'nmi']) {
      const answer = await client.answer(method);
      expect(answer?.error?.code).toBe(code);
      expect(answer?.error?.message).toContain(message);
    }
  });

  test('an answer that is no JSON is an error too', async () => {
    target.status = () => ({ ...FAKE_STATUS, pid: 1n as unknown as number });
    const client = await connect();
    expect((await client.answer('status'))?.error?.code).toBe(-32603);
  });
});

describe('lines', () => {
  test('come merged, split, and in the middle of a character', async () => {
    const client = await connect();
    client.send(`${statusLine(1)}\r\n  \n${statusLine(2)}${statusLine(3).slice(0, 10)}`);
    expect((await client.take(2)).map((message) => message?.id)).toEqual([1, 2]);
    client.send(statusLine(3).slice(10));
    expect((await client.next())?.id).toBe(3);
    for (const byte of Buffer.from('{"jsonrpc":"2.0","id":"ä€😀","method":"status"}\n')) {
      client.send(Uint8Array.of(byte));
      await Bun.sleep(0);
    }
    const answer = await client.next();
    expect(answer).toEqual({ jsonrpc: '2.0', id: 'ä€😀', result: FAKE_STATUS });
  });

  test('errors answer their line, and the connection goes on', async () => {
    const client = await connect();
    client.send('nonsense\n{"jsonrpc":"2.0","id":5,"method":"reboot"}\n[]\n');
    client.send('{"jsonrpc":"2.0","id":6,"method":"regs","params":{}}\n');
    client.send(statusLine(7));
    const answers = await client.take(5);
    expect(answers.map((answer) => answer?.error?.code)).toEqual([-32700, -32601, -32600, -32602, undefined]);
    expect(answers.map((answer) => answer?.id)).toEqual([null, 5, null, 6, 7]);
  });

  test('notifications are carried out and not answered, whether they succeed or fail', async () => {
    const client = await connect();
    client.send('{"jsonrpc":"2.0","method":"nmi"}\n');
    client.send('{"jsonrpc":"2.0","method":"reboot"}\n{"jsonrpc":"2.0","method":"regs"}\n');
    client.send(statusLine(1));
    expect((await client.next())?.id).toBe(1);
    expect(target.calls).toEqual(['sendIpi {"destination":"all","mode":"nmi"}', 'status']);
  });

  test('one of 64 KiB is taken; a longer one is answered and ends the connection', async () => {
    const client = await connect();
    const padded = (bytes: number) => statusLine(1).trim().padEnd(bytes) + '\n';
    client.send(padded(65_536));
    expect((await client.next())?.id).toBe(1);
    client.send(statusLine(2) + padded(65_537) + statusLine(3));
    const answers = await client.rest();
    expect(answers.map(({ id }) => id)).toEqual([2, null]);
    expect(answers[1]?.error?.code).toBe(-32600);
    expect(answers[1]?.error?.message).toContain('more than 65536 bytes');
  });

  test('a line without end is cut off as well', async () => {
    const client = await connect();
    client.send('x'.repeat(1_000_000));
    expect((await client.rest()).map(({ error }) => error?.code)).toEqual([-32600]);
  });

  test('a client that sends no more gets its answers, also to a line without newline', async () => {
    const client = await connect();
    client.send(statusLine(1) + statusLine(2).trim());
    client.shutdownWrites();
    expect((await client.rest()).map(({ id }) => id)).toEqual([1, 2]);
  });
});

describe('several clients', () => {
  test('each gets its own answers', async () => {
    const clients = await Promise.all(Array.from({ length: 10 }, connect));
    clients.forEach((client, i) => {
      for (let n = 0; n < 20; n++) client.request(`${i}-${n}`, 'vcpus');
    });
    for (const [i, client] of clients.entries()) {
      const ids = (await client.take(20)).map((message) => message?.id);
      expect(ids).toEqual(Array.from({ length: 20 }, (_, n) => `${i}-${n}`));
    }
  });

  test('answers come in the order of the requests, however long one takes', async () => {
    const gate = Promise.withResolvers<void>();
    target.pauseGate = gate.promise;
    const client = await connect();
    client.request(1, 'pause');
    client.request(2, 'status');
    client.request(3, 'resume');
    await until(() => target.calls.includes('pause'));
    gate.resolve();
    expect((await client.take(3)).map((message) => message?.id)).toEqual([1, 2, 3]);
    expect(target.calls).toEqual(['pause', 'paused', 'status', 'resume']);
  });

  test('what changes vCPUs waits its turn among all clients; looking and stopping does not', async () => {
    const gate = Promise.withResolvers<void>();
    target.pauseGate = gate.promise;
    const [first, second, third] = [await connect(), await connect(), await connect()];
    first.request(1, 'pause');
    await until(() => target.calls.includes('pause'));
    second.request(2, 'regs', { vcpu: 0 });
    expect((await third.answer('status'))?.result).toEqual(FAKE_STATUS);
    expect((await third.answer('stop'))?.result).toEqual(done);
    expect(target.calls).toEqual(['pause', 'status', 'stop']);
    gate.resolve();
    expect((await first.next())?.result).toEqual(done);
    expect((await second.next())?.result).toEqual(FAKE_REGISTERS);
    expect(target.calls.slice(3)).toEqual(['paused', 'registers 0']);
  });

  test('a change that fails does not stop the next one', async () => {
    const [first, second] = [await connect(), await connect()];
    target.failure = new VoltError('usage', 'Cannot do that');
    expect((await first.answer('pause'))?.error?.code).toBe(-32000);
    target.failure = undefined;
    expect((await second.answer('pause'))?.result).toEqual(done);
  });

  test('there is a limit, and a place is free again when one leaves', async () => {
    const clients = await Promise.all(Array.from({ length: MAX_CLIENTS }, connect));
    for (const client of clients) await client.answer('status');
    const refused = await (await connect()).rest();
    expect(refused.map(({ id, error }) => [id, error?.code])).toEqual([[null, -32000]]);
    expect(refused[0]?.error?.message).toContain(`more than ${MAX_CLIENTS} clients`);
    clients[0]!.vanish();
    let answer: Message | undefined;
    while (answer?.result === undefined) answer = await (await connect()).answer('status');
    expect(answer.result).toEqual(FAKE_STATUS);
  });

  test('a flood of connections that ask nothing keeps nobody from being served', async () => {
    const silent = await Promise.all(Array.from({ length: 4 * MAX_CLIENTS }, connect));
    const client = await connect();

    expect((await client.answer('status'))?.result).toEqual(FAKE_STATUS);
    // All but as many as there may be are closed.
    expect(await Promise.all(silent.slice(0, 3 * MAX_CLIENTS).map((each) => each.rest()))).toEqual(
      Array(3 * MAX_CLIENTS).fill([]),
    );
    client.request(1, 'status');
    expect((await client.next())?.result).toEqual(FAKE_STATUS);
  });

  test('clients that are refused and stay are closed', async () => {
    const clients = await Promise.all(Array.from({ length: MAX_CLIENTS }, connect));
    for (const client of clients) await client.answer('status');
    // They never close their side; a connection that the server has closed takes no more bytes.
    const stay = Array.from({ length: 100 }, () => connectStream(server.path));
    await until(() => stay.every((fd) => sendBytes(fd, Buffer.from('x')) < 0));

    stay.forEach(closeStream);
    expect((await clients[0]!.answer('status'))?.result).toEqual(FAKE_STATUS);
  });
});

describe('events', () => {
  test('come after the word that they will, to those who asked', async () => {
    const [watcher, other] = [await connect(), await connect()];
    await watcher.answer('events');
    await other.answer('pause', { vcpus: [1] });
    await other.answer('nmi', { vcpu: 0 });
    await other.answer('affinity', { vcpu: 0, cpus: [1] });
    expect((await watcher.take(3)).map((message) => message?.params)).toEqual([
      { kind: 'paused', vcpus: [1], atMs: 1 },
      { kind: 'ipi', request: { destination: 0, mode: 'nmi' }, atMs: 3 },
      { kind: 'affinity', vcpu: 0, cpus: [1], atMs: 4 },
    ] as never);
    expect(await other.answer('status')).toHaveProperty('result');
  });

  test('asking twice does not double them', async () => {
    const client = await connect();
    await client.answer('events');
    await client.answer('events');
    expect(target.listeners.size).toBe(1);
    target.tell({ kind: 'resumed', vcpus: [0], atMs: 9 });
    client.request(1, 'status');
    expect((await client.take(2)).map((message) => message?.method ?? message?.id)).toEqual(['event', 1]);
  });

  test('still come to a client that will send no more', async () => {
    const client = await connect();
    client.request(1, 'events');
    client.shutdownWrites();
    await client.next();
    target.tell({ kind: 'resumed', vcpus: [0], atMs: 9 });
    expect((await client.next())?.params?.kind).toBe('resumed');
  });

  test('the end of the guest is the last one before the connection closes', async () => {
    const client = await connect();
    await client.answer('events');
    target.tell({ kind: 'ended', reason: 'reset', exitCode: 0, atMs: 9 });
    await server.close();
    expect((await client.rest()).map(({ params }) => params?.kind)).toEqual(['ended']);
  });
});

describe('slow clients', () => {
  test('events that one does not read are dropped and counted, and nobody else notices', async () => {
    const [slow, other] = [await connect(), await connect()];
    await slow.answer('events');
    slow.stopReading();
    const told = 20_000;
    for (let n = 0; n < told; n++) target.tell({ kind: 'resumed', vcpus: [0], atMs: n });
    expect((await other.answer('status'))?.result).toEqual(FAKE_STATUS);
    target.tell({ kind: 'ended', reason: 'reset', exitCode: 0, atMs: told });
    slow.readOn();
    let events = 0;
    let dropped = 0;
    let last: Message | undefined;
    while (last?.params?.kind !== 'ended') {
      last = await slow.next();
      if (last?.params?.kind === 'dropped') dropped += last.params.count!;
      else events++;
    }
    expect(dropped).toBeGreaterThan(0);
    expect(events + dropped).toBe(told + 1);
  });

  test('requests of one that does not read its answers wait, and are all answered in the end', async () => {
    target.vcpuCount = 100;
    const client = await connect();
    client.stopReading();
    const asked = 2000;
    for (let id = 0; id < asked; id++) client.request(id, 'vcpus');
    expect(await settled(() => target.calls.length)).toBeLessThan(asked / 2);
    expect((await (await connect()).answer('status'))?.result).toEqual(FAKE_STATUS);
    client.readOn();
    const ids = (await client.take(asked)).map((message) => message?.id);
    expect(ids).toEqual(Array.from({ length: asked }, (_, id) => id));
  });

  test('one that never reads does not hold up the end', async () => {
    target.vcpuCount = 100;
    const client = await connect();
    client.stopReading();
    for (let id = 0; id < 1000; id++) client.request(id, 'vcpus');
    await settled(() => target.calls.length);
    await server.close();
    expect(readdirSync(folder.path)).toEqual([]);
  });
});

describe('clients that vanish', () => {
  test('in the middle of a request', async () => {
    const gate = Promise.withResolvers<void>();
    target.pauseGate = gate.promise;
    const client = await connect();
    client.request(1, 'pause');
    await until(() => target.calls.includes('pause'));
    client.vanish();
    gate.resolve();
    await until(() => target.calls.includes('paused'));
    expect((await (await connect()).answer('status'))?.result).toEqual(FAKE_STATUS);
  });

  test('in the middle of a line, or before they say anything', async () => {
    for (const text of ['', '{"jsonrpc', '\xff', statusLine(1)]) {
      const client = await connect();
      client.send(text);
      client.vanish();
    }
    expect((await (await connect()).answer('status'))?.result).toEqual(FAKE_STATUS);
  });

  test('with a subscription, which ends with them', async () => {
    const client = await connect();
    await client.answer('events');
    expect(target.listeners.size).toBe(1);
    client.vanish();
    await until(() => target.listeners.size === 0);
    target.tell({ kind: 'resumed', vcpus: [0], atMs: 9 });
    expect((await (await connect()).answer('status'))?.result).toEqual(FAKE_STATUS);
  });

  test('what they asked for without waiting is still done', async () => {
    const client = await connect();
    client.send('{"jsonrpc":"2.0","method":"pause"}\n{"jsonrpc":"2.0","method":"resume"}\n');
    client.vanish();
    await until(() => target.calls.includes('resume'));
  });

  test('by the hundred', async () => {
    for (let n = 0; n < 300; n++) {
      const client = await connect();
      client.request(n, 'events');
      client.request(n, 'vcpus');
      client.vanish();
    }
    let answer: Message | undefined;
    while (answer?.result === undefined) answer = await (await connect()).answer('status');
    await until(() => target.listeners.size === 0);
  });
});

describe('the end of the server', () => {
  test('removes the socket and closes connections', async () => {
    const client = await connect();
    expect(lstatSync(server.path).mode & 0o7777).toBe(0o600);
    await server.close();
    expect(await client.rest()).toEqual([]);
    expect(readdirSync(folder.path)).toEqual([]);
  });

  test('answers the request under way and drops those behind it', async () => {
    const gate = Promise.withResolvers<void>();
    target.pauseGate = gate.promise;
    const client = await connect();
    client.request(1, 'pause');
    client.request(2, 'status');
    await until(() => target.calls.includes('pause'));
    const closed = server.close();
    gate.resolve();
    await closed;
    expect((await client.rest()).map(({ id }) => id)).toEqual([1]);
    expect(target.calls).not.toContain('status');
  });

  test('does not wait forever for a request that never ends', async () => {
    target.pauseGate = new Promise(() => {});
    const client = await connect();
    client.request(1, 'pause');
    await until(() => target.calls.includes('pause'));
    await server.close();
    expect(await client.rest()).toEqual([]);
  });

  test('may come twice', async () => {
    await server.close();
    await server.close();
  });
});

describe('random input', () => {
  const GOOD = [
    { method: 'status' },
    { method: 'regs', params: { vcpu: 1 } },
    { method: 'ipi', params: { destination: 'all', mode: 'nmi' } },
    { method: 'events', params: {} },
  ].map((request, id) => new TextEncoder().encode(JSON.stringify({ jsonrpc: '2.0', id, ...request })));

  test('10,000 lines of random bytes or broken requests are each answered or ignored', async () => {
    const random = seededRandom(2026);
    const client = await connect();
    for (let n = 0; n < 10_000; n++) {
      const line =
        random.int(0, 1) === 0
          ? random.bytes(random.int(0, 120))
          : mutate(random, random.pick(GOOD as [Uint8Array, ...Uint8Array[]]));
      client.send(line.map((byte) => (byte === 0x0a ? 0x20 : byte)));
      client.send('\n');
    }
    client.request('end', 'status');
    const codes = new Set<number | undefined>();
    for (let message = await client.next(); message?.id !== 'end'; message = await client.next()) {
      expect(message?.jsonrpc).toBe('2.0');
      codes.add(message?.error?.code);
    }
    expect([...codes].filter((code) => code !== undefined).sort()).toEqual([
      -32600, -32601, -32602, -32700,
    ] as never);
    expect((await (await connect()).answer('status'))?.result).toEqual(FAKE_STATUS);
  });

  test('random bytes with newlines wherever they fall', async () => {
    const random = seededRandom(7);
    for (let n = 0; n < 100; n++) {
      const client = await connect();
      client.send(random.bytes(random.int(1, 5000)));
      if (random.int(0, 1) === 0) client.vanish();
      else client.shutdownWrites();
    }
    let answer: Message | undefined;
    while (answer?.result === undefined) answer = await (await connect()).answer('status');
    expect(answer.result).toEqual(FAKE_STATUS);
  });
});

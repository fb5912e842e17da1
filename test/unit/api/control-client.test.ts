import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { callOnce, connectControl } from '../../../src/api/control/client.ts';
import { MAX_CLIENTS, serveControl, type ControlServer } from '../../../src/api/control/server.ts';
import { VoltError } from '../../../src/volt-error.ts';
import {
  FAKE_DEVICE,
  FAKE_REGISTERS,
  FAKE_STATUS,
  FakeTarget,
  fakeVcpu,
  RawClient,
  SocketFolder,
  until,
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

async function errorOf(promise: Promise<unknown>): Promise<VoltError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(VoltError);
  return error as VoltError;
}

/** A server that answers every line with `reply`, whatever it says. */
function impostor(reply: string) {
  const listener = Bun.listen({
    unix: folder.at('other.sock'),
    socket: {
      data(socket) {
        socket.write(reply);
      },
    },
  });
  return { path: folder.at('other.sock'), [Symbol.dispose]: () => listener.stop(true) };
}

describe('calls', () => {
  test('give what the guest answers', async () => {
    using client = await connectControl(server.path);
    expect(await client.call('status', {})).toEqual(FAKE_STATUS);
    expect(await client.call('vcpus', {})).toEqual(
      [0, 1].map((i) => JSON.parse(JSON.stringify(fakeVcpu(i))) as never),
    );
    expect(await client.call('regs', { vcpu: 1 })).toEqual(FAKE_REGISTERS);
    expect(await client.call('ipi', { destination: 1, mode: 'sipi', vector: 8 })).toEqual({ ok: true });
    expect(target.calls.at(-1)).toBe('sendIpi {"destination":1,"mode":"sipi","vector":8}');
  });

  test('may be many at once', async () => {
    using client = await connectControl(server.path);
    const calls = Array.from({ length: 500 }, () => client.call('status', {}));
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 500 }, () => FAKE_STATUS));
  });

  test('that the guest refuses throw its words and code', async () => {
    target.failure = new VoltError('guest', 'Cannot do that: found this (expected that)');
    const error = await errorOf(callOnce(server.path, 'nmi', {}));
    expect([error.code, error.message]).toEqual(['guest', 'Cannot do that: found this (expected that)']);
  });

  test('with wrong params are a usage error', async () => {
    const error = await errorOf(callOnce(server.path, 'regs', { vcpu: -1 }));
    expect([error.code, error.message]).toEqual([
      'usage',
      "Cannot call regs: vcpu: -1 (expected a vCPU's index)",
    ]);
  });

  test('that fail within the guest are its defect', async () => {
    target.failure = new TypeError('oops');
    expect((await errorOf(callOnce(server.path, 'status', {}))).code).toBe('internal');
  });

  test('under way when the guest goes fail in one line', async () => {
    target.pauseGate = new Promise(() => {});
    using client = await connectControl(server.path);
    const paused = errorOf(client.call('pause', {}));
    await until(() => target.calls.includes('pause'));
    await server.close();
    expect((await paused).message).toBe(
      `Cannot control the guest at ${server.path}: it has ended, or closed the connection (expected an answer)`,
    );
    expect((await errorOf(client.call('status', {}))).code).toBe('host');
  });

  test('that are not answered in time fail, and a late answer is no matter', async () => {
    const gate = Promise.withResolvers<void>();
    target.pauseGate = gate.promise;
    using client = await connectControl(server.path);
    const error = await errorOf(client.call('pause', {}, 20));
    expect(error.message).toContain(
      'it did not answer pause within 20 ms (expected a guest that is not stopped)',
    );
    gate.resolve();
    expect(await client.call('status', {})).toEqual(FAKE_STATUS);
  });

  test('on a closed client fail', async () => {
    const client = await connectControl(server.path);
    client.close();
    expect((await errorOf(client.call('status', {}))).message).toContain('it was closed');
  });
});

describe('connecting', () => {
  test.each([
    ['nothing', 'missing.sock', 'there is no such socket'],
    ['a file', 'file', 'it is not a stream socket'],
    ['a path through a file', 'file/vm.sock', 'there is no such socket'],
    [
      'a path that is too long',
      'x'.repeat(120),
      'its path is too long for a socket (expected at most 107 bytes)',
    ],
  ])('to %s says so', async (_what, name, message) => {
    writeFileSync(folder.at('file'), '');
    const error = await errorOf(connectControl(folder.at(name)));
    expect(error.code).toBe('host');
    expect(error.message).toContain(`Cannot reach a guest at ${folder.at(name)}: ${message}`);
  });

  test('to a socket that nobody serves any more says that the guest has ended', async () => {
    const path = folder.at('dead.sock');
    const code = `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, 'SIGKILL');`;
    await Bun.spawn([process.execPath, '-e', code]).exited;
    expect((await errorOf(connectControl(path))).message).toContain(
      'no process listens there, the guest has ended',
    );
  });

  test.each([
    ['SSH-2.0-OpenSSH_9.2\r\n', 'does not speak the control protocol'],
    ['{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":7}}\n', 'does not speak the control protocol'],
    ['{"jsonrpc":"2.0","id":1,"result":{},"error":null}\n', 'does not speak the control protocol'],
    ['{"jsonrpc":"2.0","id":1}\n', 'does not speak the control protocol'],
    ['{"jsonrpc":"2.0","id":1,"result":{"state":"fine"}}\n', 'its answer to status is malformed'],
  ])('to something else that answers %j fails in one line', async (reply, message) => {
    using other = impostor(reply);
    expect((await errorOf(callOnce(other.path, 'status', {}))).message).toContain(message);
  });

  test('to something that answers with more devices than there can be fails in one line', async () => {
    const devices = Array(300).fill(FAKE_DEVICE);
    using other = impostor(`${JSON.stringify({ jsonrpc: '2.0', id: 1, result: devices })}\n`);

    const { message } = await errorOf(callOnce(other.path, 'devices', {}));

    expect(message).toContain('its answer to devices is malformed');
  });

  test('to a guest with too many clients says so', async () => {
    const clients = await Promise.all(
      Array.from({ length: MAX_CLIENTS }, () => RawClient.connect(server.path)),
    );
    for (const client of clients) await client.answer('status');
    const error = await errorOf(callOnce(server.path, 'status', {}));
    expect(error.message).toContain(`more than ${MAX_CLIENTS} clients`);
  });
});

describe('events', () => {
  test('are iterated until the guest ends', async () => {
    using client = await connectControl(server.path);
    const kinds: string[] = [];
    const watching = (async () => {
      for await (const event of client.events()) kinds.push(event.kind);
    })();
    await until(() => target.listeners.size === 1);
    await callOnce(server.path, 'pause', {});
    target.tell({ kind: 'ended', reason: 'reset', exitCode: 0, atMs: 9 });
    await server.close();
    await watching;
    expect(kinds).toEqual(['paused', 'ended']);
  });

  test('end when the client is closed, and calls go beside them', async () => {
    const client = await connectControl(server.path);
    const kinds: string[] = [];
    const watching = (async () => {
      for await (const event of client.events()) {
        kinds.push(event.kind);
        await client.call('status', {});
        client.close();
      }
    })();
    await until(() => target.listeners.size === 1);
    target.tell({ kind: 'resumed', vcpus: [0], atMs: 1 });
    await watching;
    expect(kinds).toEqual(['resumed']);
    await until(() => target.listeners.size === 0);
  });

  test('that nobody takes are dropped and counted', async () => {
    using client = await connectControl(server.path);
    const events = client.events();
    const first = events.next();
    await until(() => target.listeners.size === 1);
    const told = 25_000;
    for (let n = 0; n < told; n += 500) {
      for (let i = 0; i < 500; i++) target.tell({ kind: 'resumed', vcpus: [0], atMs: n + i });
      await client.call('status', {});
    }
    expect((await first).value).toMatchObject({ kind: 'resumed', atMs: 0 });
    let seen = 1;
    let dropped = 0;
    while (seen + dropped < told) {
      const { value } = await events.next();
      if (value?.kind === 'dropped') dropped += value.count;
      else seen++;
    }
    expect(dropped).toBeGreaterThan(0);
    expect(seen + dropped).toBe(told);
  });
});

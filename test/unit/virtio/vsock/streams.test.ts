/** The socket device on real Unix sockets, with a driver in this process for a guest. */
import { afterAll, afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeVsock } from '../../../../src/virtio/vsock/device.ts';
import { VSOCK_OP as OP } from '../../../../src/virtio/vsock/regs.ts';
import { MAP, Mapping, PROT } from '../../../../src/ffi/mapping.ts';
import { EventLoop } from '../../../../src/virtio/host/event-loop.ts';
import { openVsock } from '../../../../src/virtio/vsock/open.ts';
import { serveVsock } from '../../../../src/virtio/vsock/serve.ts';
import { createDeviceBench } from '../device-bench.ts';
import { createServeContext } from '../serve-context.ts';
import { ramAt } from '../test-ram.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const CID = 3;
const RAM_BYTES = 0x40_0000;
const BUFFER_BYTES = 4096;

let folder: string;
let path: string;
const stack = new DisposableStack();

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'volt-vsock-'));
  path = join(folder, 'v.sock');
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

afterAll(() => stack.dispose());

const config = () => ({ kind: 'vsock', id: 'vsock', guestCid: CID, path }) as const;

/** A guest with 64 receive buffers. */
function createGuest() {
  const mapping = stack.use(
    new Mapping({
      bytes: RAM_BYTES,
      prot: PROT.read | PROT.write,
      flags: MAP.private | MAP.anonymous,
      what: 'a test',
    }),
  );
  const opened = openVsock(config());
  const events = stack.use(new EventLoop());
  const device = serveVsock(opened.start, createServeContext(events));
  const memory = ramAt(new Uint8Array(mapping.view(0, RAM_BYTES)), mapping.address);
  const bench = createDeviceBench(describeVsock(CID), device, [], { memory });
  const queues = bench.start();
  const places = new Map<number, number>();
  let place = 0;
  const refill = () => {
    const address = bench.buffers + BUFFER_BYTES * (place++ % 64);
    places.set(queues[0]!.add([{ address, length: BUFFER_BYTES, writable: true }]), address);
  };
  for (let i = 0; i < 64; i++) refill();
  queues[0]!.notify();
  const out = bench.buffers + 64 * BUFFER_BYTES;
  const send = (op: number, from: number, to: number, data = '', flags = 0) => {
    const words = [CID, 0, 2, 0, from, to, data.length, 1 | (op << 16), flags, 1 << 20, 0];
    words.forEach((word, i) => bench.view.setUint32(out + 4 * i, word, true));
    bench.bytes.set(Buffer.from(data), out + 44);
    queues[1]!.offer([{ address: out, length: 44 + data.length }]);
  };
  /** Lets the device and everybody else run until the next packet to the guest. */
  const receive = async () => {
    for (let turns = 0; turns < 500; turns++) {
      const used = queues[0]!.takeUsed();
      if (used) {
        const at = places.get(used.id)!;
        const u32 = (offset: number) => bench.view.getUint32(at + offset, true);
        const data = Buffer.from(bench.bytes.slice(at + 44, at + used.written)).toString();
        const packet = { op: u32(28) >>> 16, from: u32(16), to: u32(20), data };
        refill();
        queues[0]!.notify();
        return packet;
      }
      await turn();
    }
    throw new Error('nothing came');
  };
  const turn = async () => {
    events.after(1, () => {});
    events.runOnce();
    await Bun.sleep(1);
  };
  const close = () => {
    bench.runner.stop();
    opened.close();
  };
  return { ...bench, send, receive, turn, close };
}

/** A program on the host. */
async function connect(socketPath: string) {
  let text = '';
  const closed = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    unix: socketPath,
    socket: {
      data: (_, bytes) => void (text += bytes.toString()),
      close: () => closed.resolve(),
      end: () => closed.resolve(),
    },
  });
  return { socket, text: () => text, closed: closed.promise };
}

async function until(guest: ReturnType<typeof createGuest>, done: () => boolean): Promise<void> {
  for (let turns = 0; turns < 500 && !done(); turns++) await guest.turn();
}

describe('a program on the host', () => {
  test('reaches a port of the guest, and nothing that it says behind its command is lost', async () => {
    const guest = createGuest();
    const { socket, text } = await connect(path);
    socket.write('CONNECT 80\nhello');
    const request = await guest.receive();
    guest.send(OP.response, 80, request.from);
    const hello = await guest.receive();

    guest.send(OP.data, 80, request.from, 'good day');
    await until(guest, () => text().endsWith('day'));
    socket.end();
    const goodbye = await guest.receive();

    expect(request).toEqual({ op: OP.request, from: 2 ** 30, to: 80, data: '' });
    expect(hello).toMatchObject({ op: OP.data, data: 'hello' });
    expect(text()).toBe(`OK ${2 ** 30}\ngood day`);
    expect(goodbye.op).toBe(OP.shutdown);
    guest.close();
  });

  test.each(['CONNECT 80\r\n', 'CONNECT 80 \n', 'CONNECT\t80\n', ' connect  80\n'])(
    'splits %j at white space, as Firecracker does',
    async (command) => {
      const guest = createGuest();
      const { socket } = await connect(path);

      socket.write(command);
      const request = await guest.receive();

      expect(request).toMatchObject({ op: OP.request, to: 80 });
      socket.end();
      guest.close();
    },
  );

  test.each(['GARBAGE\n', 'CONNECT\n', 'CONNECT 4294967296\n', 'CONNECT 80 81\n', 'C'.repeat(40)])(
    'that says %j is hung up on, and the guest hears nothing',
    async (command) => {
      const guest = createGuest();
      const { socket, text, closed } = await connect(path);
      let hungUp = false;
      void closed.then(() => (hungUp = true));

      socket.write(command);
      await until(guest, () => hungUp);

      expect(hungUp).toBe(true);
      expect(text()).toBe('');
      guest.close();
    },
  );

  test('is served during a flood of connections that say nothing, of which at most 64 stay open', async () => {
    const guest = createGuest();
    let closed = 0;
    const flood = async () => {
      const { socket, closed: end } = await connect(path);
      void end.then(() => closed++);
      return socket;
    };
    const silent: Bun.Socket[] = [];
    for (let i = 0; i < 200; i++) {
      silent.push(await flood());
      if (i % 50 === 0) await guest.turn();
    }

    const { socket } = await connect(path);
    socket.write('CONNECT 80\n');
    const request = await guest.receive();
    await until(guest, () => closed >= 200 - 64);

    expect(request).toMatchObject({ op: OP.request, to: 80 });
    expect(closed).toBeGreaterThanOrEqual(200 - 64);
    for (const each of silent) each.end();
    guest.close();
  });
});

describe('the guest', () => {
  test('reaches who listens at PATH_PORT', async () => {
    const guest = createGuest();
    const server = Bun.listen({
      unix: `${path}_52`,
      socket: { data: (socket, bytes) => void socket.write(bytes.toString().toUpperCase()) },
    });
    guest.send(OP.request, 1000, 52);
    const answer = await guest.receive();

    guest.send(OP.data, 1000, 52, 'shout');

    expect(answer).toEqual({ op: OP.response, from: 52, to: 1000, data: '' });
    expect(await guest.receive()).toMatchObject({ op: OP.data, data: 'SHOUT' });
    server.stop(true);
    expect((await guest.receive()).op).toBe(OP.shutdown);
    guest.close();
  });

  test('is refused where nobody listens', async () => {
    const guest = createGuest();

    guest.send(OP.request, 1000, 52);

    expect(await guest.receive()).toMatchObject({ op: OP.reset, from: 52, to: 1000 });
    guest.close();
  });

  test('sends a megabyte to a slow reader, and all of it arrives', async () => {
    const guest = createGuest();
    let bytes = 0;
    const server = Bun.listen({
      unix: `${path}_52`,
      socket: { data: (_, piece) => void (bytes += piece.length) },
    });
    guest.send(OP.request, 1000, 52);
    await guest.receive();

    for (let sent = 0; sent < 1 << 20; sent += 32_768) {
      guest.send(OP.data, 1000, 52, 'x'.repeat(32_768));
      await guest.receive();
    }
    await until(guest, () => bytes === 1 << 20);

    expect(bytes).toBe(1 << 20);
    server.stop(true);
    guest.close();
  });
});

describe('the socket of the device', () => {
  test("is its user's alone, and gone when the device is", () => {
    const opened = openVsock(config());
    const mode = statSync(path).mode & 0o777;

    opened.close();

    expect(mode).toBe(0o600);
    expect(() => statSync(path)).toThrow('ENOENT');
  });

  test('takes the place of one that a killed Volt left behind', () => {
    Bun.spawnSync([
      process.execPath,
      '-e',
      `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, 'SIGKILL')`,
    ]);
    const left = statSync(path).isSocket();

    const opened = openVsock(config());

    expect(left).toBe(true);
    opened.close();
  });

  test('takes the place of nothing else', () => {
    writeFileSync(path, 'precious');

    expect(() => openVsock(config())).toThrow(
      `Cannot use --vsock path=${path}: a file is there already (expected a path of its own for each guest)`,
    );
  });

  test('is not shared', () => {
    const opened = openVsock(config());

    expect(() => openVsock(config())).toThrow('another process listens there');
    opened.close();
  });

  test('needs a path that fits, and a folder that is there', () => {
    path = join(folder, 'x'.repeat(100));
    expect(() => openVsock(config())).toThrow(/the path has \d+ bytes \(expected at most \d+\)/);
    path = join(folder, 'missing', 'v.sock');
    expect(() => openVsock(config())).toThrow('ENOENT');
  });
});

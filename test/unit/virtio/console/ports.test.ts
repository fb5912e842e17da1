/** The virtio console on a real Unix socket and a real file. */
import { afterAll, afterEach, beforeEach, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeConsole } from '../../../../src/virtio/console/device.ts';
import { MAP, Mapping, PROT } from '../../../../src/ffi/mapping.ts';
import type { ConsolePortConfig } from '../../../../src/virtio/console/spec.ts';
import { parseConfig } from '../../../../src/config/config.ts';
import { EventLoop } from '../../../../src/virtio/host/event-loop.ts';
import { openConsole } from '../../../../src/virtio/console/open.ts';
import { serveConsole } from '../../../../src/virtio/console/serve.ts';
import { createDeviceBench } from '../device-bench.ts';
import { createServeContext } from '../serve-context.ts';
import { ramAt } from '../test-ram.ts';
import { voltErrorOf } from '../../support/errors.ts';

const RAM_BYTES = 0x20_0000;
const stack = new DisposableStack();
let folder: string;

beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'volt-console-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));
afterAll(() => stack.dispose());

/** A guest that knows no messages, so that its one port is open at once. */
function createGuest(port: Partial<ConsolePortConfig>) {
  const ports = [{ name: 'port0', socket: undefined, file: undefined, tty: true, ...port }];
  const opened = openConsole({ kind: 'console', id: 'console', ports });
  const flags = MAP.private | MAP.anonymous;
  const request = { bytes: RAM_BYTES, prot: PROT.read | PROT.write, flags, what: 'a test' };
  const mapping = stack.use(new Mapping(request));
  const events = stack.use(new EventLoop());
  const device = serveConsole(opened.start, createServeContext(events));
  const memory = ramAt(new Uint8Array(mapping.view(0, RAM_BYTES)), mapping.address);
  const bench = createDeviceBench(describeConsole(1), device, [], { memory });
  const [receive, transmit] = bench.start();
  const say = (text: string) => {
    bench.bytes.set(Buffer.from(text), bench.buffers);
    transmit!.offer([{ address: bench.buffers, length: text.length }]);
  };
  const hear = async (length: number) => {
    let text = '';
    for (let turns = 0; turns < 500 && text.length < length; turns++) {
      receive!.offer([{ address: bench.buffers + 0x1000, length: 64, writable: true }]);
      events.after(1, () => {});
      events.runOnce();
      await Bun.sleep(1);
      const used = receive!.takeUsed();
      const start = bench.buffers + 0x1000;
      if (used) text += Buffer.from(bench.bytes.slice(start, start + used.written)).toString();
    }
    return text;
  };
  const turn = async () => {
    events.after(1, () => {});
    events.runOnce();
    await Bun.sleep(1);
  };
  return { say, hear, turn, opened };
}

test('a port on a socket serves one client at a time, and bytes without a client are lost', async () => {
  const path = join(folder, 'p.sock');
  const guest = createGuest({ socket: path });
  const mode = statSync(path).mode & 0o777;
  guest.say('nobody hears this');
  let heard = '';
  let closed = 0;
  const connect = () =>
    Bun.connect({
      unix: path,
      socket: { data: (_, bytes) => void (heard += bytes.toString()), close: () => void closed++ },
    });
  const first = await connect();
  first.write('hello guest');
  const inGuest = await guest.hear(11);
  guest.say('hello host');
  const second = await connect();
  for (let turns = 0; turns < 100 && closed === 0; turns++) await guest.turn();
  const refused = closed;
  first.end();
  second.end();
  for (let turns = 0; turns < 20; turns++) await guest.turn();
  const third = await connect();
  third.write('again');

  expect(inGuest).toBe('hello guest');
  expect(await guest.hear(5)).toBe('again');
  expect([heard, refused, mode]).toEqual(['hello host', 1, 0o600]);
  guest.opened.close();
  expect(() => statSync(path)).toThrow('ENOENT');
});

test('a port serves its client during a flood of connections, each of which is closed', async () => {
  const path = join(folder, 'p.sock');
  const guest = createGuest({ socket: path });
  let closed = 0;
  const connect = () => Bun.connect({ unix: path, socket: { data: () => {}, close: () => void closed++ } });
  const first = await connect();
  first.write('a');
  const before = await guest.hear(1);

  const flood = await Promise.all(Array.from({ length: 100 }, connect));
  first.write('b');
  const during = await guest.hear(1);
  for (let turns = 0; turns < 500 && closed < 100; turns++) await guest.turn();

  expect([before, during, closed]).toEqual(['a', 'b', 100]);
  for (const socket of [first, ...flood]) socket.end();
  guest.opened.close();
});

test('a port on a file appends to it', () => {
  const path = join(folder, 'log');
  writeFileSync(path, 'before ');
  const guest = createGuest({ file: path });

  guest.say('after');

  expect(readFileSync(path, 'utf8')).toBe('before after');
  guest.opened.close();
});

test('what cannot be opened is said in one line, and nothing is left behind', () => {
  const good = { name: 'a', socket: join(folder, 'a.sock'), file: undefined, tty: false };
  const bad = { name: 'b', socket: undefined, file: folder, tty: false };

  const error = voltErrorOf(() => openConsole({ kind: 'console', id: 'console', ports: [good, bad] }));

  expect(error.message).toStartWith(
    `Cannot use --virtio-console file=${folder}: it is a directory (expected a file)`,
  );
  expect(() => statSync(good.socket)).toThrow('ENOENT');
});

test.each([
  [[{ name: 'a' }], 'it names no destination or two (expected either socket or file)'],
  [[{ name: 'a', socket: 's', file: 'f' }], 'it names no destination or two'],
  [[{ name: 'a/b', socket: 's' }], '"a/b" (expected up to 64 letters, digits, _ . or -)'],
  [Array(2).fill({ name: 'a', file: 'f' }), 'two ports have the same name'],
  [Array.from({ length: 17 }, (_, i) => ({ name: `p${i}`, file: 'f' })), '17 ports (expected at most 16)'],
])('ports %j are refused', (ports, problem) => {
  const input = { 'boot-source': { kernel_image_path: 'k' }, 'virtio-consoles': ports };

  expect(voltErrorOf(() => parseConfig(input)).message).toContain(problem);
});

/** The console for clients of the control socket: history, readers, one writer, and readers that are too slow. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { ConsoleHub, HISTORY_BYTES } from '../../../src/api/console-hub.ts';
import { serveControl } from '../../../src/api/control/server.ts';
import { FakeTarget, RawClient, SocketFolder, type Message } from './control-support.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
const numbered = (bytes: number, from = 0) => Uint8Array.from({ length: bytes }, (_, i) => (from + i) % 251);
const dataOf = (message: Message | undefined) =>
  Buffer.from((message!.params as unknown as { data: string }).data, 'base64').toString('latin1');
const data = (typed: string) => ({ data: Buffer.from(typed).toString('base64') });

class Writer {
  readonly told: boolean[] = [];

  changed(mayWrite: boolean): void {
    this.told.push(mayWrite);
  }
}

describe('the history', () => {
  test.each([
    [[10, 20]],
    [[HISTORY_BYTES]],
    [[HISTORY_BYTES - 3, 7]],
    [[5, HISTORY_BYTES + 9]],
    [[3 * HISTORY_BYTES + 1]],
  ])('has the most recent output after pieces of %p bytes', (pieces) => {
    const hub = new ConsoleHub(() => 0);
    const total = pieces.reduce((sum, bytes) => sum + bytes, 0);
    let at = 0;
    for (const bytes of pieces) {
      hub.note(numbered(bytes, at));
      at += bytes;
    }

    const history = hub.history();

    expect(history.length).toBe(Math.min(total, HISTORY_BYTES));
    expect(Buffer.compare(history, numbered(history.length, total - history.length))).toBe(0);
  });
});

describe('writers', () => {
  test('the first one types, another one only in its place, and leaving gives the console back', () => {
    const hub = new ConsoleHub((bytes) => bytes.length);
    const [first, second] = [new Writer(), new Writer()];

    const granted = [
      hub.startWriting(first, false),
      hub.startWriting(second, false),
      hub.startWriting(second, true),
    ];
    const during = [hub.mayWrite(first), hub.mayWrite(second)];
    hub.stopWriting(second);

    expect(granted).toEqual([true, false, true]);
    expect(during).toEqual([false, true]);
    expect(hub.mayWrite(first)).toBe(true);
    expect([first.told, second.told]).toEqual([[false, true], []]);
  });

  test('input that the guest has no room for is tried again, and what is left is told', async () => {
    const room = [2, 0, 1];
    const hub = new ConsoleHub(() => room.shift() ?? 0);

    expect(await hub.type(Buffer.from('abcdef'))).toBe(3);
  });
});

describe('on the control socket', () => {
  test('a client gets the history and then output, and types', async () => {
    using folder = new SocketFolder();
    const target = new FakeTarget();
    await using server = serveControl(target, folder.at('vm.sock'));
    target.console.note(Buffer.from('login: '));
    const client = await RawClient.connect(server.path);

    const attached = await client.answer('console', { write: true });
    const history = await client.next();
    target.console.note(Buffer.from('root\r\n'));
    const output = await client.next();
    const typed = await client.answer('console-input', data('root\r'));

    expect(attached?.result).toEqual({ attached: true, writer: true });
    expect(dataOf(history)).toBe('login: ');
    expect(dataOf(output)).toBe('root\r\n');
    expect(typed?.result).toEqual({ taken: 5 });
    expect(target.typed).toBe('root\r');
  });

  test('a client that is not the writer is refused, and the writer keeps the console', async () => {
    using folder = new SocketFolder();
    const target = new FakeTarget();
    await using server = serveControl(target, folder.at('vm.sock'));
    const [writer, reader] = await Promise.all([1, 2].map(() => RawClient.connect(server.path)));
    await writer!.answer('console', { write: true, history: false });

    const attached = await reader!.answer('console', { write: true, history: false });
    const refused = await reader!.answer('console-input', data('x'));

    expect(attached?.result).toEqual({ attached: true, writer: false });
    expect(refused?.error?.message).toStartWith(
      'Cannot type on the console: this client is not its writer; ',
    );
    expect(target.typed).toBe('');
  });

  test('a client that has gone leaves the console to the one before it', async () => {
    using folder = new SocketFolder();
    const target = new FakeTarget();
    await using server = serveControl(target, folder.at('vm.sock'));
    const [first, second] = await Promise.all([1, 2].map(() => RawClient.connect(server.path)));
    await first!.answer('console', { write: true, history: false });
    await second!.answer('console', { take: true, history: false });

    const lost = await first!.next();
    second!.vanish();
    const back = await first!.next();

    expect([lost, back].map((message) => message?.params as unknown)).toEqual([
      { writer: false },
      { writer: true },
    ]);
  });

  test('a client that does not read loses output, is told how much, and stalls nobody', async () => {
    using folder = new SocketFolder();
    const target = new FakeTarget();
    await using server = serveControl(target, folder.at('vm.sock'));
    const client = await RawClient.connect(server.path);
    await client.answer('console', { history: false });
    client.stopReading();
    const piece = new Uint8Array(64 * 1024).fill(0x2e);
    const pieces = 200;
    for (let i = 0; i < pieces; i++) target.console.note(piece);

    client.readOn();
    let seen = 0;
    let lost = 0;
    while (seen + lost < pieces * piece.length) {
      const { params } = (await client.next()) as unknown as { params: { data?: string; lost?: number } };
      seen += Buffer.from(params.data ?? '', 'base64').length;
      lost += params.lost ?? 0;
    }

    expect(lost).toBeGreaterThan(pieces * piece.length - 4 * 1024 * 1024);
    expect(seen).toBe(pieces * piece.length - lost);
    expect(text(target.console.history().subarray(0, 1))).toBe('.');
  });

  test.each([
    [{ data: '' }, 'data: ""'],
    [{ data: '%%%' }, 'data: "%%%"'],
    [{ data: 'A'.repeat(8000) }, 'data: "AAAA'],
    [{}, 'data: missing'],
  ])('input %j is refused', async (params, found) => {
    using folder = new SocketFolder();
    await using server = serveControl(new FakeTarget(), folder.at('vm.sock'));
    const client = await RawClient.connect(server.path);

    const refused = await client.answer('console-input', params);

    expect(refused?.error?.code).toBe(-32602);
    expect(refused?.error?.message).toStartWith(`Cannot call console-input: ${found}`);
  });
});

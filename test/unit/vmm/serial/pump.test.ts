import { expect, setDefaultTimeout, test } from 'bun:test';
import { ConsolePump, terminalSink } from '../../../../src/vmm/serial/pump.ts';
import { pushConsoleByte } from '../../../../src/vmm/serial/ring.ts';
import { OPEN, openFile } from '../../../../src/ffi/file.ts';
import { libc } from '../../../../src/ffi/libc.ts';
import { createSharedState } from '../../../../src/vmm/bus/shared-state.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

/** A running pump and the pieces that its sink was given. */
function startPump() {
  const shared = createSharedState(1);
  const pieces: number[][] = [];
  const pump = new ConsolePump(
    shared,
    (bytes) => {
      pieces.push([...bytes]);
      return bytes.length;
    },
    () => {},
  );
  void pump.run();
  return { pump, pieces, push: (byte: number) => pushConsoleByte(shared, byte) };
}

test('a guest that prints on and on is written in pieces, whole and in order', async () => {
  const { pump, pieces, push } = startPump();
  const sent = Array.from({ length: 5000 }, (_, i) => i % 251);

  for (const byte of sent) {
    push(byte);
    // The pump has its chance after each byte.
    await new Promise(setImmediate);
  }
  await pump.finish();

  expect(pieces.flat()).toEqual(sent);
  expect(pieces.length).toBeLessThan(sent.length / 10);
});

test('each byte after a silence comes out without another to push it', async () => {
  const { pump, pieces, push } = startPump();

  for (const byte of [1, 2, 3]) {
    push(byte);
    while (pieces.length < byte) await Bun.sleep(1);
  }
  await pump.finish();

  expect(pieces).toEqual([[1], [2], [3]]);
});

test('a slow reader gets everything at the end, however long that takes', async () => {
  const shared = createSharedState(1);
  const taken: number[] = [];
  let looks = 0;
  // Takes a byte every time it is looked at for so often that a reader of nothing would have been given up.
  const pump = new ConsolePump(
    shared,
    (bytes) => {
      if (looks++ % 2 === 0) return 0;
      taken.push(bytes[0]!);
      return 1;
    },
    () => {},
  );
  const sent = Array.from({ length: 1200 }, (_, i) => i % 251);
  for (const byte of sent) pushConsoleByte(shared, byte);

  await pump.finish();

  expect(taken).toEqual(sent);
});

test('what had no room before the end comes out behind the rest', async () => {
  const { pump, pieces, push } = startPump();
  const late = [4, 5, 6];
  [1, 2, 3].forEach(push);

  await pump.finish(() => late.splice(0, 2).forEach(push));

  expect(pieces.flat()).toEqual([1, 2, 3, 4, 5, 6]);
});

test('a terminal whose reader stalls takes what it has room for, and keeps nobody waiting', () => {
  using master = openFile('/dev/ptmx', OPEN.readWrite | OPEN.noControllingTerminal);
  const TIOCSPTLCK = 0x4004_5431;
  const TIOCGPTN = 0x8004_5430;
  const number = new Uint32Array(1);
  libc.ioctl(master.fd, TIOCSPTLCK, new Uint8Array(4));
  libc.ioctl(master.fd, TIOCGPTN, new Uint8Array(number.buffer));
  using terminal = openFile(`/dev/pts/${number[0]}`, OPEN.readWrite | OPEN.noControllingTerminal);
  const sink = terminalSink(terminal.fd);
  const piece = new Uint8Array(4096).fill(0x2e);

  const pieces = Array.from({ length: 100 }, () => sink(piece));

  expect(pieces[0]).toBeGreaterThan(0);
  expect(pieces.at(-1)).toBe(0);
});

import { expect, test } from 'bun:test';
import { ConsolePump } from '../../../src/vmm/console-pump.ts';
import { pushConsoleByte } from '../../../src/vmm/console-ring.ts';
import { createSharedState } from '../../../src/vmm/shared-state.ts';

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

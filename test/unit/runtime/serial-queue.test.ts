import { expect, test } from 'bun:test';
import { Turns } from '../../../src/runtime/serial-queue.ts';

test('turns are taken one at a time, in order, and a failure stops nobody', async () => {
  const turns = new Turns();
  const seen: string[] = [];
  const gate = Promise.withResolvers<void>();

  const first = turns.take(async () => {
    seen.push('first begins');
    await gate.promise;
    seen.push('first ends');
    return 1;
  });
  const second = turns.take(() => {
    seen.push('second');
    throw new Error('no');
  });
  const third = turns.take(() => seen.push('third'));
  await Bun.sleep(1);
  gate.resolve();
  const results = await Promise.allSettled([first, second, third]);

  expect(seen).toEqual(['first begins', 'first ends', 'second', 'third']);
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
});

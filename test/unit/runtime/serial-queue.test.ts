import { expect, test } from 'bun:test';
import { SerialQueue } from '../../../src/runtime/serial-queue.ts';

test('actions run one at a time, in order, and a failure stops no later one', async () => {
  const queue = new SerialQueue();
  const seen: string[] = [];
  const gate = Promise.withResolvers<void>();

  const first = queue.run(async () => {
    seen.push('first begins');
    await gate.promise;
    seen.push('first ends');
    return 1;
  });
  const second = queue.run(() => {
    seen.push('second');
    throw new Error('no');
  });
  const third = queue.run(() => seen.push('third'));
  await Bun.sleep(1);
  gate.resolve();
  const results = await Promise.allSettled([first, second, third]);

  expect(seen).toEqual(['first begins', 'first ends', 'second', 'third']);
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
});

/** Guest memory that a handler in another process supplies. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { GIB, guestAddress, MIB, PAGE_BYTES } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { GuestMemory, type GuestMemoryOptions } from '../../../src/memory/guest-memory.ts';
import { openMemorySource } from '../../../src/memory/open-source.ts';
import { releaseMemory } from '../../../src/ffi/memory-advice.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';
import { LACKS_HUGE_PAGES } from '../support/huge-pages.ts';
import { LACKS_USERFAULT, startMemoryHandler } from './memory-handler.ts';
import { saveTo } from './saved-memory.ts';

setDefaultTimeout(60_000);

const P = PAGE_BYTES;
const at = guestAddress;
const SMALL = ramRanges(32 * MIB);
const page = (value: number) => new Uint8Array(P).fill(value);

function restoreBy(path: string, options: GuestMemoryOptions = {}, ranges = SMALL) {
  const lines: string[] = [];
  const source = openMemorySource({ kind: 'uffd', path, onHandlerGone: (line) => lines.push(line) });
  const memory = new GuestMemory(ranges, { ...options, source });
  source.load(1);
  return { memory, lines };
}

describe.each([
  [`private memory${LACKS_USERFAULT}`, {}, LACKS_USERFAULT],
  [`shared memory${LACKS_USERFAULT}`, { shared: true }, LACKS_USERFAULT],
  [
    `memory of hugetlb pages${LACKS_USERFAULT}${LACKS_HUGE_PAGES}`,
    { hugepages: true },
    LACKS_USERFAULT + LACKS_HUGE_PAGES,
  ],
])('%s', (_, options, lacks) => {
  test.skipIf(lacks !== '')('comes from the handler when it is touched', async () => {
    using folder = new TemporaryFolder();
    using original = new GuestMemory(SMALL);
    for (let i = 0; i < 8; i++) original.write(at(i * 3 * MIB + 5 * P), page(i + 1));
    await saveTo(folder.at('memory'), original);
    using handler = await startMemoryHandler(folder.at('socket'), folder.at('memory'));
    const { memory } = restoreBy(folder.at('socket'), options);

    const values = Array.from({ length: 8 }, (__, i) => memory.read(at(i * 3 * MIB + 5 * P), 1)[0]);
    const between = memory.read(at(MIB), P);
    memory[Symbol.dispose]();
    const text = await handler.rest();

    expect(values).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(between).toEqual(page(0));
    expect(text).toMatch(/^supplied \d+ pages\n$/);
  });
});

describe.skipIf(LACKS_USERFAULT !== '')(`memory by a handler${LACKS_USERFAULT}`, () => {
  test('has all of its regions, and is saved whole', async () => {
    using folder = new TemporaryFolder();
    const ranges = ramRanges(3 * GIB + 16 * MIB);
    using original = new GuestMemory(ranges);
    original.write(at(P), page(1));
    original.write(at(4 * GIB + 2 * P), page(2));
    await saveTo(folder.at('memory'), original);
    using handler = await startMemoryHandler(folder.at('socket'), folder.at('memory'));
    const { memory } = restoreBy(folder.at('socket'), {}, ranges);
    using _ = memory;

    await saveTo(folder.at('some'), memory, {
      runs: [
        [0, 2 * P],
        [3 * GIB + 2 * P, P],
      ],
    });

    expect(memory.read(at(4 * GIB + 2 * P), P)).toEqual(page(2));
    expect(handler.handler.exitCode).toBeNull();
  });

  test('is zero where the balloon has given pages back', async () => {
    using folder = new TemporaryFolder();
    using original = new GuestMemory(SMALL);
    original.write(at(0), page(7));
    original.write(at(P), page(8));
    await saveTo(folder.at('memory'), original);
    using _ = await startMemoryHandler(folder.at('socket'), folder.at('memory'));
    const { memory } = restoreBy(folder.at('socket'));
    using __ = memory;
    const before = memory.read(at(0), 1)[0];

    releaseMemory(memory.regions[0]!.host, P);

    expect([before, memory.read(at(0), 1)[0], memory.read(at(P), 1)[0]]).toEqual([7, 0, 8]);
  });

  test('says in a line that the handler is gone', async () => {
    using folder = new TemporaryFolder();
    using original = new GuestMemory(SMALL);
    await saveTo(folder.at('memory'), original);
    using handler = await startMemoryHandler(folder.at('socket'), folder.at('memory'));
    const { memory, lines } = restoreBy(folder.at('socket'));
    using _ = memory;
    await Bun.sleep(0);

    handler.handler.kill();
    await handler.handler.exited;
    for (let i = 0; i < 500 && lines.length === 0; i++) await Bun.sleep(10);

    expect(lines).toEqual([
      `the memory handler at ${folder.at('socket')} has closed its connection; if it has ended, the guest stops at the first page that it did not supply`,
    ]);
  });

  test('says in a line that there is no handler', () => {
    using folder = new TemporaryFolder();
    expect(() => restoreBy(folder.at('socket'))).toThrow(
      `Cannot reach the memory handler at ${folder.at('socket')}: ENOENT; start the handler first`,
    );
  });
});

/** Which pages of a running guest are dirty. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { VirtualMachine } from '../../src/api/index.ts';
import { guestAddress, MIB, PAGE_BYTES } from '../../src/machine/address.ts';
import type { PageRun } from '../../src/machine/page-runs.ts';
import { writeMemory } from '../../src/memory/memory-writer.ts';
import { DirtyTracker } from '../../src/vmm/state/dirty-tracker.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { LACKS_HUGE_PAGES } from '../unit/support/huge-pages.ts';
import { smallConfig, waitUntil } from './guest-run.ts';
import { asm, buildPvhElf, program, u32 } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const P = PAGE_BYTES;
const COUNTER = 8 * MIB;
const COMMAND = 9 * MIB;

/** mov dword [address], value */
const store = (address: number, value: number) => [0xc7, 0x05, ...u32(address), ...u32(value)];
/** mov eax, [COMMAND]; mov byte [eax], 1; lock inc dword [COUNTER] */
const writeWhereTold = [...asm.readEax(COMMAND), 0xc6, 0x00, 0x01, 0xf0, 0xff, 0x05, ...u32(COUNTER)];

/** mov edi, 16 MiB; next: inc dword [edi]; add edi, 12 KiB + 4; cmp edi, 60 MiB; jb next */
const writeEverywhere = [
  ...[0xbf, ...u32(16 * MIB)],
  ...[0xff, 0x07, 0x81, 0xc7, ...u32(3 * P + 4), 0x81, 0xff, ...u32(60 * MIB), 0x72, 0x100 - 16],
];

const includes = (runs: readonly PageRun[], address: number) =>
  runs.some(([offset, bytes]) => offset <= address && address < offset + bytes);

/** A guest that writes a byte at the address at COMMAND, and counts at COUNTER, again and again. */
async function startWriter(folder: TemporaryFolder, hugepages = false) {
  const code = program(store(COMMAND, 10 * MIB), asm.forEver(writeWhereTold));
  const kernel = await folder.write('kernel', buildPvhElf(code));
  const config = smallConfig(kernel, 1, 64);
  const vm = new VirtualMachine(hugepages ? { ...config, hugepages } : config);
  vm.start();
  const { memory } = vm.machine;
  const word = (address: number) => new Uint32Array(memory.read(guestAddress(address), 4).buffer)[0]!;
  const rounds = async () => {
    const before = word(COUNTER);
    await waitUntil('the guest went on', () => word(COUNTER) > before + 2);
  };
  const writeAt = async (address: number) => {
    memory.write(guestAddress(COMMAND), Uint8Array.from(u32(address)));
    await rounds();
  };
  await rounds();
  return { vm, tracker: new DirtyTracker(vm.machine.vm, memory), rounds, writeAt };
}

describe.skipIf(!kvmOpens)('pages that a guest writes (needs /dev/kvm)', () => {
  test('are dirty from the start on, each until it is collected', async () => {
    using folder = new TemporaryFolder();
    const { vm, tracker, rounds, writeAt } = await startWriter(folder);
    using _ = vm;

    tracker.start();
    await rounds();
    const first = tracker.collect();
    await writeAt(20 * MIB + 5);
    const second = tracker.collect();
    await vm.pause();
    tracker.collect();
    const paused = tracker.collect();
    await vm.resume();
    await writeAt(30 * MIB);
    const third = tracker.collect();

    const seen = (runs: readonly PageRun[]) =>
      [COUNTER, 10 * MIB, 20 * MIB, 30 * MIB, 40 * MIB].filter((address) => includes(runs, address));
    expect(seen(first)).toEqual([COUNTER, 10 * MIB]);
    // Perhaps also the page that was written before it was told the next one.
    expect(seen(second)).toEqual(expect.arrayContaining([COUNTER, 20 * MIB]));
    expect(paused).toEqual([]);
    expect(seen(third)).toEqual(expect.arrayContaining([COUNTER, 30 * MIB]));
    expect(seen(third)).not.toContain(10 * MIB);
  });

  test('are not, once it is stopped, and are again when it is started anew', async () => {
    using folder = new TemporaryFolder();
    const { vm, tracker, rounds, writeAt } = await startWriter(folder);
    using _ = vm;
    tracker.start();
    await rounds();
    tracker.stop();
    await writeAt(20 * MIB);

    tracker.start();
    await writeAt(30 * MIB);
    await rounds();
    const dirty = tracker.collect();

    expect(tracker.isTracking).toBe(true);
    expect([COUNTER, 30 * MIB].map((address) => includes(dirty, address))).toEqual([true, true]);
    expect(includes(dirty, 25 * MIB)).toBe(false);
  });

  const checkSinglePages = async (hugepages: boolean) => {
    using folder = new TemporaryFolder();
    const { vm, tracker, rounds } = await startWriter(folder, hugepages);
    using _ = vm;

    tracker.start();
    await rounds();
    tracker.collect();
    await rounds();
    await vm.pause();
    const dirty = tracker.collect();

    expect(dirty).toEqual([
      [COUNTER, P],
      [10 * MIB, P],
    ]);
  };
  test('are single ones, not the transparent huge ones around them', () => checkSinglePages(false));
  test.skipIf(LACKS_HUGE_PAGES !== '')(`are single ones also in hugetlb pages${LACKS_HUGE_PAGES}`, () =>
    checkSinglePages(true),
  );

  test('are in a file that follows a running guest, round by round, none of them lost', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.forEver(writeEverywhere))));
    using vm = new VirtualMachine(smallConfig(kernel, 1, 64));
    vm.start();
    const { memory } = vm.machine;
    const tracker = new DirtyTracker(vm.machine.vm, memory);
    const fd = openSync(folder.at('memory'), 'w+');
    const differences = [];

    tracker.start();
    await writeMemory(memory, fd);
    for (let stop = 0; stop < 5; stop++) {
      for (let round = 0; round < 5; round++)
        await writeMemory(memory, fd, { runs: tracker.collect(), overwrite: true });
      await vm.pause();
      await writeMemory(memory, fd, { runs: tracker.collect(), overwrite: true });
      const file = readFileSync(folder.at('memory'));
      for (let at = 0; at < 64 * MIB; at += MIB)
        if (!file.subarray(at, at + MIB).equals(memory.read(guestAddress(at), MIB))) differences.push(at);
      await vm.resume();
    }
    closeSync(fd);

    expect(differences).toEqual([]);
    expect(memory.read(guestAddress(16 * MIB), 4)).not.toEqual(new Uint8Array(4));
  });

  test('are joined by those that Volt writes', async () => {
    using folder = new TemporaryFolder();
    const { vm, tracker } = await startWriter(folder);
    using _ = vm;
    await vm.pause();
    tracker.start();

    vm.machine.memory.write(guestAddress(50 * MIB - 1), Uint8Array.of(1, 2));

    expect(tracker.collect()).toEqual([[50 * MIB - P, 2 * P]]);
    expect(tracker.collect()).toEqual([]);
  });
});

/** vCPUs run on memory that comes from a snapshot's file or from a handler when it is touched. */
import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, openSync } from 'node:fs';
import { libc } from '../../src/ffi/libc.ts';
import { EXIT, IOCTL, REGS, RUN, SEGMENT, SREGS } from '../../src/kvm/abi.ts';
import { KvmSystem } from '../../src/kvm/system.ts';
import { guestAddress, MIB } from '../../src/machine/address.ts';
import { ramRanges } from '../../src/machine/layout.ts';
import { GuestMemory } from '../../src/memory/guest-memory.ts';
import type { MemorySource } from '../../src/memory/memory-source.ts';
import { openMemorySource } from '../../src/memory/open-source.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { LACKS_USERFAULT, startMemoryHandler } from '../unit/memory/memory-handler.ts';
import { saveTo } from '../unit/memory/saved-memory.ts';
import { DirtyTracker } from '../../src/vmm/state/dirty-tracker.ts';

setDefaultTimeout(60_000);

const at = guestAddress;
const RANGES = ramRanges(32 * MIB);
const CODE = 0x1000;
const DATA = 0x8000;

/** Real mode: mov al, [DATA]; inc al; mov [DATA + 0x1000], al; out 0x10, al; hlt */
const PROGRAM = Uint8Array.of(0xa0, 0x00, 0x80, 0xfe, 0xc0, 0xa2, 0x00, 0x90, 0xe6, 0x10, 0xf4);

const folder = new TemporaryFolder();
const path = folder.at('memory');
afterAll(() => folder[Symbol.dispose]());

async function saveProgram(): Promise<void> {
  using memory = new GuestMemory(RANGES);
  memory.write(at(CODE), PROGRAM);
  memory.write(at(DATA), Uint8Array.of(41));
  await saveTo(path, memory);
}
const saved = saveProgram();

/** Runs the program on restored memory until its output; what it wrote, and where. */
function runOn(source: MemorySource, atRestore = false) {
  using memory = new GuestMemory(RANGES, { source: openMemorySource(source) });
  memory.source!.load(1);
  using system = new KvmSystem();
  using vm = system.createVm();
  memory.regions.forEach(({ address, bytes, host }, slot) => vm.setMemorySlot(slot, address, bytes, host));
  using vcpu = vm.createVcpu(0);
  vcpu.updateSregs((sregs) => {
    sregs.setBigUint64(SREGS.cs + SEGMENT.base, 0n, true);
    sregs.setUint16(SREGS.cs + SEGMENT.selector, 0, true);
  });
  vcpu.setRegs((regs) => {
    regs.setBigUint64(REGS.rip, BigInt(CODE), true);
    regs.setBigUint64(REGS.rflags, 2n, true);
  });
  const tracker = new DirtyTracker(vm, memory);
  if (atRestore) tracker.startAtRestore();
  else tracker.start();
  expect(libc.ioctl(vcpu.fd, IOCTL.run, null)).toBe(0);
  const run = new DataView(vcpu.runPage.view(0, vcpu.runPage.bytes));
  const output = run.getUint8(Number(run.getBigUint64(RUN.io.dataOffset, true)));
  return {
    exit: run.getUint32(RUN.exitReason, true),
    output,
    written: memory.read(at(DATA + 0x1000), 1)[0],
    dirty: tracker.collect(),
    later: tracker.collect(),
  };
}

const EXPECTED = { exit: EXIT.io, output: 42, written: 42, dirty: [[DATA + 0x1000, 0x1000]], later: [] };

describe.skipIf(!kvmOpens)('a vCPU (needs /dev/kvm)', () => {
  test('runs on a memory file, and what it writes is its own and dirty', async () => {
    await saved;
    const fd = openSync(path, 'r');

    const first = runOn({ kind: 'layers', layers: [{ fd, name: path }] });
    const second = runOn({ kind: 'layers', layers: [{ fd, name: path }] });
    closeSync(fd);

    expect([first, second] as unknown).toEqual([EXPECTED, EXPECTED]);
  });

  test('is known to have written a page since the restore without being watched', async () => {
    await saved;
    const fd = openSync(path, 'r');

    const result = runOn({ kind: 'layers', layers: [{ fd, name: path }] }, true);
    closeSync(fd);

    expect(result as unknown).toEqual(EXPECTED);
  });

  test.skipIf(LACKS_USERFAULT !== '')(
    `runs on memory that a handler supplies${LACKS_USERFAULT}`,
    async () => {
      await saved;
      using handler = await startMemoryHandler(folder.at('socket'), path);

      const result = runOn({ kind: 'uffd', path: folder.at('socket') }, true);

      expect(result as unknown).toEqual(EXPECTED);
      expect(await handler.rest()).toMatch(/^supplied \d+ pages\n$/);
    },
  );
});

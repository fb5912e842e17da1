/**
 * A guest that exits again and again: the worker of its vCPU allocates nothing for that, so that no collection ever
 * stops it. VOLT_TEST_SOAK=1 makes it ten million exits, which take minutes (npm run test:soak). Needs /dev/kvm.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { resolve } from 'node:path';
import { parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { EXIT } from '../../src/kvm/abi.ts';
import { LAYOUT } from '../../src/machine/layout.ts';
import { VCPU_WORD } from '../../src/vmm/bus/shared-state.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { runMachine } from './guest-run.ts';
import type { HeapReport } from './heap-probe.ts';
import { asm, buildPvhElf, program, u32 } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(3_600_000);

const SOAK = process.env['VOLT_TEST_SOAK'] === '1';
const EXITS = SOAK ? 10_000_000 : 200_000;
/** Enough for all code to be compiled: what that takes of the heap does not count. */
const WARM_UP_EXITS = 50_000;
/** One cell of 16 bytes for every tenth exit of the short form is more. */
const HEAP_BYTES = 256 * 1024;
const RSS_BYTES = 16 * 1024 * 1024;
/**
 * The compiler takes 450 KiB of the heap once in a while, in a short run or in a long one, depending on when its own
 * threads get a processor. The least of several runs is without that; what each exit allocates is in all of them.
 */
const ROUNDS = 8;

/** One exit each, of every kind that a running guest makes; EAX, EDX are free. */
const ACCESSES = [
  asm.out8(0x80, 1),
  asm.in8(0x80),
  asm.out8(0x3ff, 1),
  asm.in8(0x3fd),
  asm.storeEax(LAYOUT.mmioHole.address),
  asm.readEax(LAYOUT.mmioHole.address),
  asm.storeEax(LAYOUT.virtio.address + 0x14),
  asm.readEax(LAYOUT.virtio.address),
];

/** Makes these accesses in turns, `exits` in all. */
function exitingGuest(exits: number): Uint8Array {
  const turn = [...ACCESSES.flat(), 0x49]; // dec ecx
  return program([0xb9, ...u32(exits / ACCESSES.length)], asm.untilZero(turn), asm.exit(0));
}

/** Has workers that are made meanwhile tell of their heaps. */
const RealWorker = globalThis.Worker;
let reported: HeapReport | undefined;

class ProbedWorker extends RealWorker {
  constructor(url: string | URL, options?: WorkerOptions) {
    super(url, { ...options, preload: resolve(import.meta.dir, 'heap-probe.ts') });
    this.addEventListener('message', ({ data }) => (reported = data.heap ?? reported));
  }
}

beforeAll(() => void (globalThis.Worker = ProbedWorker as typeof Worker));
afterAll(() => void (globalThis.Worker = RealWorker));

/** Bytes that the heap of the vCPU's worker has at its end. */
async function heapAfter(exits: number): Promise<number> {
  using folder = new TemporaryFolder();
  const path = await folder.write('kernel', buildPvhElf(exitingGuest(exits)));
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: path },
    'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
    entropy: {},
  });
  using vm = new VirtualMachine(config);
  const { end } = await runMachine(vm);
  expect(end.kind).toBe('guest-exit');
  const words = vm.shared.vcpuWords(0);
  const seen = words[VCPU_WORD.exits + EXIT.io]! + words[VCPU_WORD.exits + EXIT.mmio]!;
  expect(seen).toBeGreaterThanOrEqual(exits);
  expect(reported!.canaries).toBeGreaterThan(0);
  expect(reported!.collected).toBe(0);
  return reported!.capacity;
}

describe.skipIf(!kvmOpens)(`a guest that makes ${EXITS} exits (needs /dev/kvm)`, () => {
  test('takes no more memory than one that makes few, and nothing is ever collected', async () => {
    // The least of several short runs first, so that no high one hides what a long run takes.
    let few = Math.min(await heapAfter(WARM_UP_EXITS), await heapAfter(WARM_UP_EXITS));
    let many = Infinity;
    for (let round = 0; round < ROUNDS && !(many - few < HEAP_BYTES); round++) {
      few = Math.min(few, await heapAfter(WARM_UP_EXITS));
      const before = process.memoryUsage.rss();
      many = Math.min(many, await heapAfter(EXITS));
      expect(process.memoryUsage.rss() - before).toBeLessThan(RSS_BYTES);
    }
    expect(many - few).toBeLessThan(HEAP_BYTES);
  });
});

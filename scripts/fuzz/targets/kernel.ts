/** Kernel files of every kind, and initrds of every size. */
import { planBoot } from '../../../src/boot/plan-boot.ts';
import type { BootInputs } from '../../../src/boot/boot-inputs.ts';
import { MIB } from '../../../src/machine/address.ts';
import { LAYOUT, ramRanges } from '../../../src/machine/layout.ts';
import { VoltError } from '../../../src/volt-error.ts';
import {
  bootInputs,
  buildBzImage,
  buildElf,
  hugeSource,
  LINUX_NOTE,
  multibootHeader,
  pvhNote,
} from '../../../test/unit/boot/images.ts';
import type { Random } from '../../../test/unit/support/random.ts';
import { mutate, seededRandom } from '../../../test/unit/support/random.ts';
import { choicesOf, kindOf, randomChoices, type FuzzTarget } from '../target.ts';

const MULTIBOOT_ADDRESSES = [MIB, MIB, 0, 0, MIB + 0x20];

function kernels(): Uint8Array[] {
  const both = Uint8Array.of(...LINUX_NOTE, ...pvhNote(MIB));
  return [
    buildElf({ notes: LINUX_NOTE, segments: [{ memoryBytes: 0x8000 }, { paddr: 0x20_0000 }] }),
    buildElf({ notes: pvhNote(MIB + 16) }),
    buildElf({ notes: both }),
    buildElf({ bits: 32, notes: pvhNote(MIB + 16) }),
    buildElf({ bits: 32, content: multibootHeader(3), entry: MIB }),
    buildElf({ content: multibootHeader(3), entry: MIB }),
    Uint8Array.of(...multibootHeader(0x1_0003, MULTIBOOT_ADDRESSES), ...new Uint8Array(0x100)),
    buildBzImage({ setupSects: 1, codeBytes: 0x600, payloadLength: 0x100 }),
    buildBzImage({ setupSects: 1, codeBytes: 0x600, xloadFlags: 0, version: 0x0206 }),
  ];
}

/** Fields lie in the first bytes, in notes, and where a bzImage has its header. */
const FIELDS: readonly [[number, number], ...[number, number][]] = [
  [0, 0x110],
  [0x800, 0x880],
  [0x1f0, 0x268],
  [0x1000, 0x1040],
];

function varyFields(random: Random, input: Uint8Array): Uint8Array {
  const [from, to] = random.pick(FIELDS);
  if (input.length < from + 8) return mutate(random, input.length < 8 ? new Uint8Array(64) : input);
  const copy = input.slice();
  copy.set(mutate(random, copy.slice(from, to)), from);
  return copy;
}

/** Plans the boot, and checks that what is loaded lies in the file and in RAM, and apart. */
function plan(inputs: BootInputs): string {
  let made;
  try {
    made = planBoot(inputs);
  } catch (error) {
    if (error instanceof VoltError && error.code !== 'internal') return kindOf(error.message);
    throw error;
  }
  const lowEnd = inputs.ranges[0]!.address + inputs.ranges[0]!.bytes;
  const files = { kernel: inputs.kernel.bytes, initrd: inputs.initrd?.bytes ?? 0 };
  const claims = [
    ...made.loads.map(({ address, memoryBytes }) => [address, address + memoryBytes] as const),
    ...made.writes.map(({ address, bytes }) => [address, address + bytes.length] as const),
  ].sort(([a], [b]) => a - b);
  for (const load of made.loads) {
    const { fileOffset, fileBytes, memoryBytes } = load;
    const inFile = fileOffset >= 0 && fileBytes >= 0 && fileOffset + fileBytes <= files[load.file];
    if (!inFile) throw new Error(`${load.name} is not in its file: ${fileOffset}, ${fileBytes}`);
    if (memoryBytes < fileBytes) throw new Error(`${load.name} has ${fileBytes} bytes for ${memoryBytes}`);
  }
  claims.forEach(([start, end], i) => {
    if (!(start >= 0 && end <= lowEnd && end <= LAYOUT.mmioHole.address))
      throw new Error(`something lies from ${start} to ${end}, with RAM up to ${lowEnd}`);
    if (i > 0 && claims[i - 1]![1] > start) throw new Error(`two things lie at ${start}`);
  });
  return `${made.protocol} ${made.loads.length} ${made.writes.length} ${made.entry.mode} ${made.summary.length >> 3}`;
}

export const kernelTarget: FuzzTarget = {
  name: 'kernel',
  what: 'ELF, PVH, bzImage and Multiboot files into the boot plan',
  seeds: kernels,
  words: ['\x7fELF', 'HdrS', 'Xen\0', 'Linux\0', '\x02\xb0\xad\x1b'],
  vary: varyFields,
  run: (input) =>
    plan(bootInputs(input, { initrd: input.length % 2 ? hugeSource('initrd', 5000) : undefined })),
};

const NAMED = kernels();

/** Sizes as people have them, and at the edges. */
function size(choose: (limit: number) => number, largest: number): number {
  const rough = 2 ** choose(Math.ceil(Math.log2(largest)) + 1);
  return Math.max(0, Math.min(largest, rough + choose(3) - 1 + (choose(2) ? choose(0x1_0000) : 0)));
}

export const initrdTarget: FuzzTarget = {
  name: 'initrd',
  what: 'kernels with initrds and RAM of every size into the boot plan',
  seeds: () => randomChoices(seededRandom(3), 64, 12),
  run: (input) => {
    const choose = choicesOf(input);
    const kernel = NAMED[choose(NAMED.length)]!;
    const memory = Math.max(16 * MIB, size(choose, 2 ** 42));
    const initrd = hugeSource('initrd', size(choose, 2 ** 43));
    const cmdline = 'x'.repeat(choose(8) === 0 ? choose(0x1_0000) : choose(100));
    return plan(bootInputs(kernel, { initrd, cmdline, ranges: ramRanges(memory) }));
  },
};

/** Whatever bytes a kernel file holds, its plan is made or refused in words. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { planBoot } from '../../../src/boot/plan-boot.ts';
import { MIB } from '../../../src/machine/address.ts';
import { strayErrorOf } from '../support/errors.ts';
import { mutate, seededRandom } from '../support/random.ts';
import {
  bootInputs,
  buildBzImage,
  buildElf,
  CONTENT_OFFSET,
  initrdOf,
  LINUX_NOTE,
  multibootHeader,
  pvhNote,
} from './images.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const HEADER = multibootHeader(3);
const FLAT = Uint8Array.of(
  ...multibootHeader(0x1_0003, [MIB, MIB, 0, 0, MIB + 0x20]),
  ...new Uint8Array(0x100),
);

/** Headers only, so that most mutations hit something that is read. */
const IMAGES = {
  vmlinux: buildElf({ notes: LINUX_NOTE, segments: [{ memoryBytes: 0x8000 }, { paddr: 0x20_0000 }] }),
  'a PVH kernel': buildElf({ notes: pvhNote(MIB + 16) }),
  'a 32-bit PVH kernel': buildElf({ bits: 32, notes: pvhNote(MIB + 16) }),
  'a Multiboot kernel': buildElf({ bits: 32, content: HEADER, entry: MIB }),
  'a flat Multiboot kernel': FLAT,
  'a bzImage': buildBzImage({ setupSects: 1, codeBytes: 0x600, payloadLength: 0x100 }),
} as const;

/** Where in each image the fields are: mutations go there, the rest of the file stays. */
const FIELDS: Readonly<Record<keyof typeof IMAGES, readonly [number, number]>> = {
  vmlinux: [0, 0xf0],
  'a PVH kernel': [0, 0xb0],
  'a 32-bit PVH kernel': [0, 0x74],
  'a Multiboot kernel': [0, 0x54],
  'a flat Multiboot kernel': [0, 0x20],
  'a bzImage': [0x1f0, 0x264],
};
const NAMES = Object.keys(IMAGES) as (keyof typeof IMAGES)[];

function mutateFields(
  random: ReturnType<typeof seededRandom>,
  image: Uint8Array,
  [from, to]: readonly [number, number],
) {
  const copy = image.slice();
  copy.set(mutate(random, copy.slice(from, to)), from);
  return copy;
}

const boot = (kernel: Uint8Array, initrd: boolean) => () =>
  planBoot(bootInputs(kernel, initrd ? { initrd: initrdOf(5000) } : {}));

describe('mutations never make planBoot throw anything but a VoltError', () => {
  test.each(NAMES)('of the fields of %s', (name) => {
    const random = seededRandom(7);
    const stray = Array.from({ length: 3000 }, (_, i) =>
      strayErrorOf(boot(mutateFields(random, IMAGES[name], FIELDS[name]), i % 2 === 0)),
    );
    expect(stray.filter((error) => error !== undefined)).toEqual([]);
  });

  test.each(NAMES)('anywhere in %s, cut short or not', (name) => {
    const random = seededRandom(8);
    const stray = Array.from({ length: 500 }, (_, i) =>
      strayErrorOf(boot(mutate(random, IMAGES[name]), i % 2 === 0)),
    );
    expect(stray.filter((error) => error !== undefined)).toEqual([]);
  });

  test('of notes', () => {
    const random = seededRandom(9);
    const notes = Uint8Array.of(...LINUX_NOTE, ...pvhNote(MIB));
    const stray = Array.from({ length: 2000 }, () =>
      strayErrorOf(boot(buildElf({ notes: mutate(random, notes) }), false)),
    );
    expect(stray.filter((error) => error !== undefined)).toEqual([]);
  });
});

test('a plan that is made lies in the file and in RAM', () => {
  const random = seededRandom(10);
  const plans = Array.from({ length: 3000 }, (_, i) => {
    const name = NAMES[i % NAMES.length]!;
    const kernel = mutateFields(random, IMAGES[name], FIELDS[name]);
    const inputs = bootInputs(kernel, { initrd: initrdOf(5000) });
    return { inputs, plan: planned(() => planBoot(inputs)) };
  }).filter(({ plan }) => plan !== undefined);
  for (const { inputs, plan } of plans) {
    const files = { kernel: inputs.kernel.bytes, initrd: inputs.initrd!.bytes };
    const bad = plan!.loads.filter(
      (load) =>
        load.fileOffset + load.fileBytes > files[load.file] ||
        load.memoryBytes < load.fileBytes ||
        load.address + load.memoryBytes > 128 * MIB,
    );
    expect(bad).toEqual([]);
  }
  expect(plans.length).toBeGreaterThan(100);
});

function planned<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}

test('random bytes behind each magic are planned or refused in words', () => {
  const random = seededRandom(11);
  const magics = Object.values(IMAGES).map((image) => image.subarray(0, 4));
  const stray = Array.from({ length: 3000 }, (_, i) => {
    const bytes = random.bytes(random.int(4, 400));
    bytes.set(magics[i % magics.length]!);
    return strayErrorOf(() => planBoot(bootInputs(bytes)));
  });
  expect(stray.filter((error) => error !== undefined)).toEqual([]);
});

test('mutations keep the length of what the builders made', () => {
  expect(IMAGES.vmlinux.length).toBeGreaterThan(CONTENT_OFFSET);
  expect(bytesAsSource('flat', FLAT).bytes).toBe(0x120);
});

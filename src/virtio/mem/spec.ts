/** Hotpluggable memory in a configuration, in the shape of Firecracker's section `memory-hotplug`. */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import { optional, section, wholeNumber } from '../../schema/values.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { MAX_MEM_WORDS, MEM_FEATURE } from './regs.ts';
import type { MemShape } from './shape.ts';

export interface MemConfig {
  readonly kind: 'mem';
  readonly id: string;
  readonly shape: MemShape;
  /** How much the guest is asked to plug at first. */
  readonly requestedMib: number;
  /** NUMA node. */
  readonly node: number;
}

const DEFAULT_BLOCK_MIB = 2;
const DEFAULT_SLOT_MIB = 128;
const MAX_MIB = 2 ** 24;
const MAX_BLOCKS = 32 * MAX_MEM_WORDS;
const MAX_SLOTS = 16_384;
const MAX_NODE = 1023;

const mib = wholeNumber(1, MAX_MIB, ' MiB');

const entries = () => ({
  total_size_mib: mib,
  block_size_mib: optional(mib, DEFAULT_BLOCK_MIB),
  slot_size_mib: optional(mib, DEFAULT_SLOT_MIB),
  requested_size_mib: optional(wholeNumber(0, MAX_MIB, ' MiB'), 0),
  node: optional(wholeNumber(0, MAX_NODE), 0),
});

const isPowerOfTwo = (value: number) => (value & (value - 1)) === 0;

const schema = () =>
  v.pipe(
    section(entries()),
    v.check(
      ({ block_size_mib: block }) => block >= DEFAULT_BLOCK_MIB && isPowerOfTwo(block),
      (issue) => `block_size_mib is ${issue.input.block_size_mib} (expected a power of two, at least 2)`,
    ),
    v.check(
      ({ block_size_mib: block, slot_size_mib: slot }) => slot % block === 0 && isPowerOfTwo(slot),
      (issue) =>
        `slot_size_mib is ${issue.input.slot_size_mib} (expected a power of two and a multiple of block_size_mib)`,
    ),
    v.check(
      ({ total_size_mib: total, slot_size_mib: slot }) => total % slot === 0,
      ({ input }) =>
        `total_size_mib is ${input.total_size_mib} (expected a multiple of slot_size_mib, ${input.slot_size_mib})`,
    ),
    v.check(
      ({ requested_size_mib: requested, total_size_mib: total, block_size_mib: block }) =>
        requested <= total && requested % block === 0,
      ({ input }) =>
        `requested_size_mib is ${input.requested_size_mib} (expected a multiple of block_size_mib up to total_size_mib)`,
    ),
    v.check(
      ({ total_size_mib: total, slot_size_mib: slot, block_size_mib: block }) =>
        total / block <= MAX_BLOCKS && total / slot <= MAX_SLOTS,
      () =>
        `it has too many blocks or slots (expected at most ${MAX_BLOCKS} blocks and ${MAX_SLOTS} slots; make them larger)`,
    ),
    v.transform((each): readonly MemConfig[] => [
      {
        kind: 'mem',
        id: 'mem',
        shape: { totalMib: each.total_size_mib, blockMib: each.block_size_mib, slotMib: each.slot_size_mib },
        requestedMib: each.requested_size_mib,
        node: each.node,
      },
    ]),
  );

function parseFlag(value: string): JsonObject {
  const settings = readSettings('--memory-hotplug', value, ['size', 'requested', 'block', 'slot', 'node']);
  return dropUndefined({
    total_size_mib: settings.mib('size'),
    requested_size_mib: settings.mib('requested'),
    block_size_mib: settings.mib('block'),
    slot_size_mib: settings.mib('slot'),
    node: settings.quantity('node', 'a NUMA node'),
  });
}

export const MEM = defineSpec<MemConfig>({
  kind: 'mem',
  section: 'memory-hotplug',
  isList: false,
  entries,
  schema,
  flag: {
    name: 'memory-hotplug',
    value: '<settings>',
    help: 'memory that is plugged while the guest runs: size=SIZE, requested=SIZE at first, block=2M, slot=128M, node=N (docs/memory.md)',
    parse: parseFlag,
  },
  sandboxNeeds: () => ['mem'],
  featureBits: MEM_FEATURE,
});

/** Names of feature bits, for messages and status. */
import { FEATURE } from '../transport/mmio.regs.ts';
import { SPECS, type DeviceKind } from './specs.ts';

const FEATURE_BITS = 64;

/** Feature bits of a kind of device by the specification's names, in camel case. */
export function featureNames(kind: DeviceKind, [low, high]: readonly [low: number, high: number]): string[] {
  const names: Readonly<Record<string, number>> = { ...FEATURE, ...SPECS[kind].featureBits };
  const nameOf = new Map(Object.entries(names).map(([name, bit]) => [bit, name]));
  return Array.from({ length: FEATURE_BITS }, (_, bit) => bit)
    .filter((bit) => (((bit < 32 ? low : high) >>> (bit & 31)) & 1) !== 0)
    .map((bit) => nameOf.get(bit) ?? `bit${bit}`);
}

/** Memory sizes as people write them. */
import { InvalidArgumentError } from '@commander-js/extra-typings';

const UNIT_MIB = { k: 1 / 1024, m: 1, g: 1024, t: 1024 * 1024 } as const;

/** `512M` → 512, `2G` → 2048, in MiB. Binary units; `MB`, `MiB` and small letters mean the same. */
export function parseMib(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?$/i.exec(text.trim());
  if (!match) throw new InvalidArgumentError('Expected a size with a unit, such as 512M or 2G.');
  const mib = Number(match[1]) * UNIT_MIB[match[2]!.toLowerCase() as keyof typeof UNIT_MIB];
  if (!Number.isInteger(mib)) throw new InvalidArgumentError('Expected a whole number of MiB.');
  return mib;
}

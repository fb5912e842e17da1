/** Memory sizes as people write them. */
import { VoltError } from '../volt-error.ts';

const UNIT_MIB = { k: 1 / 1024, m: 1, g: 1024, t: 1024 * 1024 } as const;

/**
 * `512M` → 512, `2G` → 2048, in MiB. Binary units; `MB`, `MiB` and small letters mean the same. Throws VoltError
 * 'usage' with a sentence for the caller to put behind the flag's name.
 */
export function parseMib(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?$/i.exec(text.trim());
  if (!match) throw new VoltError('usage', 'Expected a size with a unit, such as 512M or 2G.');
  const mib = Number(match[1]) * UNIT_MIB[match[2]!.toLowerCase() as keyof typeof UNIT_MIB];
  if (!Number.isInteger(mib)) throw new VoltError('usage', 'Expected a whole number of MiB.');
  return mib;
}

/** Sizes with units, as in flags. */
import { VoltError } from '../volt-error.ts';

/** Factors of the binary units. */
export const UNIT_FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/**
 * `512M` → 512, `2G` → 2048, in MiB. Binary units; `MB`, `MiB` and lower case mean the same. Throws VoltError
 * 'usage' with a sentence that the caller puts after the flag's name.
 */
export function parseMib(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?$/i.exec(text.trim());
  if (!match) throw new VoltError('usage', 'Expected a size with a unit, such as 512M or 2G.');
  const mib = (Number(match[1]) * UNIT_FACTORS[match[2]!.toUpperCase()]!) / UNIT_FACTORS['M']!;
  if (!Number.isInteger(mib)) throw new VoltError('usage', 'Expected a whole number of MiB.');
  return mib;
}

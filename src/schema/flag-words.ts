/** The value of a device's flag: words `key=value` or `key`, between commas. */
import { VoltError } from '../volt-error.ts';

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const MAX_QUANTITY = 2 ** 50;

export interface DeviceWords {
  /** The value of a word that needs one. */
  text(key: string, what: string): string | undefined;
  /** Whether a word that has no value is there. */
  flag(key: string): boolean;
  /** A whole number from 1 on, with K, M, G or T behind it. */
  quantity(key: string, what: string): number | undefined;
  /** `bw` and `iops` as a rate limiter of one second, if either is there. */
  rateLimiter(): Record<string, unknown> | undefined;
}

/** Throws VoltError 'usage' for a word that is not among `keys`, or there twice. */
export function readWords(flag: string, text: string, keys: readonly string[]): DeviceWords {
  const bad = (found: string, expected: string) =>
    new VoltError('usage', `Cannot use ${flag} ${text}: ${found} (expected ${expected})`);
  const words = new Map<string, string | undefined>();
  for (const word of text.split(',')) {
    const equals = word.indexOf('=');
    const key = equals < 0 ? word : word.slice(0, equals);
    if (!keys.includes(key)) throw bad(`there is no ${key === '' ? 'empty word' : key}`, keys.join(', '));
    if (words.has(key)) throw bad(`${key} is there twice`, 'each word once');
    words.set(key, equals < 0 ? undefined : word.slice(equals + 1));
  }
  const needed = (key: string, what: string) => {
    const value = words.get(key);
    if (words.has(key) && (value === undefined || value === ''))
      throw bad(`${key} has no value`, `${key}=${what}`);
    return value;
  };
  const quantity = (key: string, what: string) => {
    const value = needed(key, what);
    if (value === undefined) return undefined;
    const match = /^(\d{1,15})([KMGT]?)$/i.exec(value);
    const amount = match ? Number(match[1]) * UNITS[match[2]!.toUpperCase()]! : 0;
    if (amount < 1 || amount > MAX_QUANTITY) throw bad(`${key} is ${value}`, what);
    return amount;
  };
  return {
    text: needed,
    quantity,
    flag(key) {
      if (words.get(key) !== undefined) throw bad(`${key} has a value`, `${key} alone`);
      return words.has(key);
    },
    rateLimiter() {
      const size = quantity('bw', 'bytes per second such as 10M');
      const count = quantity('iops', 'a number per second such as 500');
      if (size === undefined && count === undefined) return undefined;
      return {
        ...(size === undefined ? {} : { bandwidth: { size, refill_time: 1000 } }),
        ...(count === undefined ? {} : { ops: { size: count, refill_time: 1000 } }),
      };
    },
  };
}

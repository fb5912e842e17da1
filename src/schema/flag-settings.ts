/** The value of a flag that takes settings: `key=value` or `key`, separated by commas. */
import { VoltError } from '../volt-error.ts';
import { parseMib, UNIT_FACTORS } from './sizes.ts';

const MAX_QUANTITY = 2 ** 50;
/** A page per second; a smaller value most likely lacks its unit. */
const MIN_BYTES_PER_SECOND = 4096;

export interface FlagSettings {
  /** Value of a key that needs one; `what` describes it in errors. */
  text(key: string, what: string): string | undefined;
  /** Whether a key without a value is present: true or undefined, as in a configuration file. */
  present(key: string): true | undefined;
  /** `key` and `key=on` are true, `key=off` is false. */
  onOff(key: string): boolean | undefined;
  /** A whole number of at least 1, with an optional suffix K, M, G or T. */
  quantity(key: string, what: string): number | undefined;
  /** Like `quantity`, or the word `auto`. */
  quantityOrAuto(key: string, what: string): number | 'auto' | undefined;
  /** A size such as 128M, in MiB. */
  mib(key: string): number | undefined;
  /** The table's value for the word that was given. */
  choice(key: string, table: Readonly<Record<string, string>>): string | undefined;
  /** `bw` and `iops` as a rate limiter with a bucket of one second, if either is given. */
  rateLimiter(): Record<string, unknown> | undefined;
}

/** Throws VoltError 'usage' for a key that is not in `keys`, or that is given twice. */
export function readSettings(flag: string, text: string, keys: readonly string[]): FlagSettings {
  const bad = (found: string, expected: string) =>
    new VoltError('usage', `Cannot use ${flag} ${text}: ${found} (expected ${expected})`);
  const values = new Map<string, string | undefined>();
  for (const setting of text.split(',')) {
    const equals = setting.indexOf('=');
    const key = equals < 0 ? setting : setting.slice(0, equals);
    if (!keys.includes(key))
      throw bad(key === '' ? 'an empty setting' : `unknown key ${key}`, keys.join(', '));
    if (values.has(key)) throw bad(`${key} is given twice`, 'each key once');
    values.set(key, equals < 0 ? undefined : setting.slice(equals + 1));
  }
  const needed = (key: string, what: string) => {
    const value = values.get(key);
    if (values.has(key) && (value === undefined || value === ''))
      throw bad(`${key} has no value`, `${key}=${what}`);
    return value;
  };
  const quantity = (key: string, what: string, min = 1) => {
    const value = needed(key, what);
    if (value === undefined) return undefined;
    const match = /^(\d{1,15})([KMGT]?)$/i.exec(value);
    const amount = match ? Number(match[1]) * UNIT_FACTORS[match[2]!.toUpperCase()]! : 0;
    if (amount < min || amount > MAX_QUANTITY) throw bad(`${key} is ${value}`, what);
    return amount;
  };
  return {
    text: needed,
    quantity,
    quantityOrAuto: (key, what) => (values.get(key) === 'auto' ? 'auto' : quantity(key, `${what}, or auto`)),
    present(key) {
      if (values.get(key) !== undefined) throw bad(`${key} takes no value`, `${key} alone`);
      return values.has(key) || undefined;
    },
    onOff(key) {
      const value = values.get(key) ?? 'on';
      if (value !== 'on' && value !== 'off') throw bad(`${key} is ${value}`, 'on, off');
      return values.has(key) ? value === 'on' : undefined;
    },
    mib(key) {
      const value = needed(key, '128M');
      if (value === undefined) return undefined;
      try {
        return parseMib(value);
      } catch {
        throw bad(`${key} is ${value}`, 'a size in whole MiB, such as 512M or 2G');
      }
    },
    choice(key, table) {
      const value = needed(key, Object.keys(table).join('|'));
      if (value === undefined) return undefined;
      if (!Object.hasOwn(table, value)) throw bad(`${key} is ${value}`, Object.keys(table).join(', '));
      return table[value];
    },
    rateLimiter() {
      const size = quantity('bw', 'bytes per second such as 10M, at least 4K', MIN_BYTES_PER_SECOND);
      const count = quantity('iops', 'a number per second such as 500');
      if (size === undefined && count === undefined) return undefined;
      return {
        ...(size === undefined ? {} : { bandwidth: { size, refill_time: 1000 } }),
        ...(count === undefined ? {} : { ops: { size: count, refill_time: 1000 } }),
      };
    },
  };
}

/** The section without the keys whose value is undefined. */
export function dropUndefined(object: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

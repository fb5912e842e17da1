/** Flags of devices, and their way into the sections of a configuration file. */
import { VoltError } from '../api/index.ts';

type Json = Record<string, unknown>;

const CACHE: Readonly<Record<string, string>> = {
  writeback: 'Writeback',
  writethrough: 'Writethrough',
  unsafe: 'Unsafe',
};
const ENGINE: Readonly<Record<string, string>> = { sync: 'Sync', async: 'Async' };
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

export const DISK_HELP =
  'a disk: FILE, or path=FILE,readonly,overlay=FILE,… (docs/disks.md); may be given again';

/** `path=FILE,readonly,…` or a bare path to an object of the `drives` section. `index` names disks without an id. */
export function parseDisk(text: string, index: number): Json {
  const bad = (found: string, expected: string) =>
    new VoltError('usage', `Cannot use --disk ${text}: ${found} (expected ${expected})`);
  const drive: Json = { drive_id: `disk${index}` };
  const limiter: Json = {};
  // A path may hold commas only in the bare form, where nothing else is said.
  const words = /(^|,)path=/.test(text) ? text.split(',') : [`path=${text}`];
  const seen = new Set<string>();
  for (const word of words) {
    const equals = word.indexOf('=');
    const key = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? undefined : word.slice(equals + 1);
    if (seen.has(key)) throw bad(`${key} is there twice`, 'each word once');
    seen.add(key);
    const needed = (what: string) => {
      if (value === undefined || value === '') throw bad(`${key} has no value`, `${key}=${what}`);
      return value;
    };
    const among = (table: Readonly<Record<string, string>>) => {
      const word = needed(Object.keys(table).join('|'));
      const known = Object.hasOwn(table, word) ? table[word] : undefined;
      if (known === undefined) throw bad(`${key} is ${value}`, Object.keys(table).join(', '));
      return known;
    };
    const quantity = (what: string, limit: number) => {
      const match = /^(\d{1,15})([KMGT]?)$/i.exec(needed(what));
      const amount = match ? Number(match[1]) * UNITS[match[2]!.toUpperCase()]! : 0;
      if (amount < 1 || amount > limit) throw bad(`${key} is ${value}`, what);
      return amount;
    };
    switch (key) {
      case 'path':
        drive['path_on_host'] = needed('FILE');
        break;
      case 'id':
        drive['drive_id'] = needed('NAME');
        break;
      case 'overlay':
        drive['overlay'] = needed('FILE');
        break;
      case 'readonly':
      case 'direct':
        if (value !== undefined) throw bad(`${key} has a value`, `${key} alone`);
        drive[key === 'direct' ? 'direct' : 'is_read_only'] = true;
        break;
      case 'cache':
        drive['cache_type'] = among(CACHE);
        break;
      case 'engine':
        drive['io_engine'] = among(ENGINE);
        break;
      case 'queues':
        drive['queues'] = quantity('a number from 1 to 16', 2 ** 32);
        break;
      case 'bw':
        limiter['bandwidth'] = { size: quantity('bytes per second such as 10M', 2 ** 50), refill_time: 1000 };
        break;
      case 'iops':
        limiter['ops'] = { size: quantity('requests per second such as 500', 2 ** 50), refill_time: 1000 };
        break;
      default:
        throw bad(
          `there is no ${key === '' ? 'empty word' : key}`,
          'path, readonly, id, cache, direct, overlay, queues, bw, iops, engine',
        );
    }
  }
  if (Object.keys(limiter).length > 0) drive['rate_limiter'] = limiter;
  return drive;
}

/** For commander: each --disk adds one. */
export function collectDisk(text: string, before: readonly Json[] | undefined): readonly Json[] {
  const disks = before ?? [];
  return [...disks, parseDisk(text, disks.length)];
}

/** `--pmem`, and its way into the section of that name of a configuration file. */
import { readWords, VoltError } from '../api/index.ts';
import { dropUndefined } from './net-options.ts';

type Json = Record<string, unknown>;

export const PMEM_HELP =
  'a file as persistent memory: path=FILE, with readonly, id=…, bw=SIZE (a second), iops=N; may be given again';

/** `index` names those without an id. */
export function parsePmem(text: string, index: number): Json {
  const words = readWords('--pmem', text, ['path', 'readonly', 'id', 'bw', 'iops']);
  const path = words.text('path', 'FILE');
  if (path === undefined) {
    throw new VoltError('usage', `Cannot use --pmem ${text}: it names no file (expected path=FILE)`);
  }
  return dropUndefined({
    id: words.text('id', 'NAME') ?? `pmem${index}`,
    path_on_host: path,
    read_only: words.flag('readonly') || undefined,
    rate_limiter: words.rateLimiter(),
  });
}

/** For commander: each --pmem adds one. */
export function collectPmem(text: string, before: readonly Json[] | undefined): readonly Json[] {
  const all = before ?? [];
  return [...all, parsePmem(text, all.length)];
}

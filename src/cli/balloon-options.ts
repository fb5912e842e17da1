/** `--balloon`, and its way into the section of that name of a configuration file. */
import { dropUndefined } from './net-options.ts';
import { readWords } from '../api/index.ts';
import { toMib } from './size.ts';

export const BALLOON_HELP =
  'a memory balloon, as large as size=SIZE at first (default: 0M), with stats=SECONDS, deflate-on-oom';

export function parseBalloon(text: string): Record<string, unknown> {
  const words = readWords('--balloon', text, ['size', 'stats', 'deflate-on-oom']);
  const size = words.text('size', '128M');
  return dropUndefined({
    amount_mib: size === undefined ? undefined : toMib(size),
    stats_polling_interval_s: words.quantity('stats', 'seconds between statistics'),
    deflate_on_oom: words.flag('deflate-on-oom') || undefined,
  });
}

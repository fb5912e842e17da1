/** `--share`, and its way into the section `shares` of a configuration file. */
import { readWords, VoltError } from '../api/index.ts';
import { dropUndefined } from './net-options.ts';

type Json = Record<string, unknown>;

export const SHARE_HELP =
  'a folder by virtiofsd: path=DIR or socket=PATH, with tag=NAME to mount it by, readonly, cache=…, id=…; may be given again';

/** `index` names shares without an id; the tag is the id unless it is given. */
export function parseShare(text: string, index: number): Json {
  const words = readWords('--share', text, ['path', 'socket', 'tag', 'readonly', 'cache', 'id']);
  const [path, socket] = [words.text('path', 'DIR'), words.text('socket', 'PATH')];
  if ((path === undefined) === (socket === undefined)) {
    throw new VoltError(
      'usage',
      `Cannot use --share ${text}: it names ${path === undefined ? 'no folder' : 'two folders'} (expected path=DIR or socket=PATH)`,
    );
  }
  const id = words.text('id', 'NAME') ?? `share${index}`;
  return dropUndefined({
    id,
    tag: words.text('tag', 'NAME') ?? id,
    path_on_host: path,
    socket,
    is_read_only: words.flag('readonly') || undefined,
    cache: words.text('cache', 'auto|always|none'),
  });
}

/** For commander: each --share adds one. */
export function collectShare(text: string, before: readonly Json[] | undefined): readonly Json[] {
  const shares = before ?? [];
  return [...shares, parseShare(text, shares.length)];
}

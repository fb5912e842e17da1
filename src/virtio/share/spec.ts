/** Shared folders in a configuration: Volt's own section `shares`. */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import { filePath, flag, found, listOf, oneOf, optional, section, text } from '../../schema/values.ts';
import { VoltError } from '../../volt-error.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { DeviceId } from '../host/values.ts';
import { FS_TAG_BYTES } from './regs.ts';

const SHARE_CACHES = ['auto', 'always', 'none'] as const;

export interface ShareConfig {
  readonly kind: 'share';
  readonly id: string;
  /** The name by which the guest mounts it. */
  readonly tag: string;
  /** A folder, for which Volt starts virtiofsd, or the socket of a running one. */
  readonly source:
    | { readonly path: string; readonly readOnly: boolean; readonly cache: (typeof SHARE_CACHES)[number] }
    | { readonly socket: string };
}

const tag = v.pipe(
  text,
  v.check(
    (value) => Buffer.byteLength(value) <= FS_TAG_BYTES,
    (issue) => `${found(issue.input)} (expected at most ${FS_TAG_BYTES} bytes)`,
  ),
);

const entries = () => ({
  id: DeviceId,
  tag,
  path_on_host: optional(filePath),
  socket: optional(filePath),
  is_read_only: optional(flag),
  cache: optional(oneOf(SHARE_CACHES)),
});

const share = () =>
  v.pipe(
    section(entries()),
    v.check(
      ({ path_on_host: path, socket }) => (path === undefined) !== (socket === undefined),
      () => 'it names no folder or two (expected either path_on_host or socket)',
    ),
    v.check(
      ({ socket, is_read_only: readOnly, cache }) =>
        socket === undefined || (readOnly === undefined && cache === undefined),
      () => 'is_read_only and cache do not apply to a socket; set them where its daemon is started',
    ),
    v.transform(({ id, tag, path_on_host: path, socket, is_read_only: readOnly, cache }): ShareConfig => ({
      kind: 'share',
      id,
      tag,
      source:
        path === undefined
          ? { socket: socket! }
          : { path, readOnly: readOnly ?? false, cache: cache ?? 'auto' },
    })),
  );

const schema = () =>
  v.pipe(
    listOf(share()),
    v.check(
      (shares) => repeatedTag(shares) === undefined,
      (issue) => `two shares have the tag ${repeatedTag(issue.input)} (expected different tags)`,
    ),
  );

function repeatedTag(shares: readonly ShareConfig[]): string | undefined {
  const tags = shares.map((each) => each.tag);
  return tags.find((each, i) => tags.indexOf(each) !== i);
}

/** The tag defaults to the id. */
function parseFlag(value: string, index: number): JsonObject {
  const settings = readSettings('--share', value, ['path', 'socket', 'tag', 'readonly', 'cache', 'id']);
  const [path, socket] = [settings.text('path', 'DIR'), settings.text('socket', 'PATH')];
  if ((path === undefined) === (socket === undefined)) {
    throw new VoltError(
      'usage',
      `Cannot use --share ${value}: it names ${path === undefined ? 'no folder' : 'two folders'} (expected either path=DIR or socket=PATH)`,
    );
  }
  const id = settings.text('id', 'NAME') ?? `share${index}`;
  return dropUndefined({
    id,
    tag: settings.text('tag', 'NAME') ?? id,
    path_on_host: path,
    socket,
    is_read_only: settings.present('readonly'),
    cache: settings.text('cache', 'auto|always|none'),
  });
}

export const SHARE = defineSpec<ShareConfig>({
  sandboxNeeds: () => ['share'],
  kind: 'share',
  section: 'shares',
  isList: true,
  entries,
  schema,
  flag: {
    name: 'share',
    value: '<settings>',
    help: 'a folder shared by virtiofsd: path=DIR or socket=PATH, tag=NAME to mount it by, readonly, cache=…, id=…; may be given again',
    parse: parseFlag,
  },
});

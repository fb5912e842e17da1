/** Shared folders in a configuration: Volt's own section `shares`. */
import * as v from 'valibot';
import { FS_TAG_BYTES } from './regs.ts';
import { flag, found, oneOf, section, text } from '../../schema/values.ts';
import { DeviceId } from '../host/device-values.ts';

export const SHARE_CACHES = ['auto', 'always', 'none'] as const;

export interface ShareConfig {
  readonly kind: 'share';
  readonly id: string;
  /** What the guest mounts it by. */
  readonly tag: string;
  /** The folder, for a virtiofsd of Volt's own; or the socket of one that runs. */
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

const SHARE = {
  id: DeviceId,
  tag,
  path_on_host: v.optional(text),
  socket: v.optional(text),
  is_read_only: v.optional(flag),
  cache: v.optional(oneOf(SHARE_CACHES)),
} as const;

export const SHARE_KEYS: ReadonlySet<string> = new Set(Object.keys(SHARE));

export const ShareSchema = v.pipe(
  section(SHARE),
  v.check(
    ({ path_on_host: path, socket }) => (path === undefined) !== (socket === undefined),
    () => 'it names no folder, or two (expected path_on_host or socket)',
  ),
  v.check(
    ({ socket, is_read_only: readOnly, cache }) =>
      socket === undefined || (readOnly === undefined && cache === undefined),
    () => 'is_read_only and cache are for whoever started the daemon (expected them with path_on_host)',
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

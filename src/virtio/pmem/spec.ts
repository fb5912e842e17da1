/** Persistent memory in a configuration, in the shape of Firecracker's section `pmem`. */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import { filePath, flag, listOf, oneOf, optional, section } from '../../schema/values.ts';
import { VoltError } from '../../volt-error.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { DeviceId, NO_LIMITS, RateLimiterSchema } from '../host/values.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';

export interface PmemConfig {
  readonly kind: 'pmem';
  readonly id: string;
  readonly path: string;
  /** The guest's writes never reach the file. */
  readonly readOnly: boolean;
  readonly format: 'Raw' | undefined;
  readonly root: boolean;
  /** Whether the file is locked against other machines. */
  readonly locked: boolean;
  /** Of flushes, each of which counts as the file's size in bytes. */
  readonly limits: RateLimits;
}

const entries = () => ({
  id: DeviceId,
  path_on_host: filePath,
  root_device: optional(flag, false),
  read_only: optional(flag, false),
  format: optional(oneOf(['Raw'])),
  rate_limiter: optional(RateLimiterSchema),
  locked: optional(flag, true),
});

const pmem = () =>
  v.pipe(
    section(entries()),
    v.transform((each): PmemConfig => ({
      kind: 'pmem',
      id: each.id,
      path: each.path_on_host,
      readOnly: each.read_only,
      format: each.format,
      root: each.root_device,
      locked: each.locked,
      limits: each.rate_limiter ?? NO_LIMITS,
    })),
  );

function parseFlag(value: string, index: number): JsonObject {
  const settings = readSettings('--pmem', value, ['path', 'root', 'readonly', 'id', 'format', 'bw', 'iops']);
  const path = settings.text('path', 'FILE');
  if (path === undefined)
    throw new VoltError('usage', `Cannot use --pmem ${value}: it names no file (expected path=FILE)`);
  return dropUndefined({
    id: settings.text('id', 'NAME') ?? `pmem${index}`,
    path_on_host: path,
    root_device: settings.present('root'),
    read_only: settings.present('readonly'),
    format: settings.choice('format', { raw: 'Raw' }),
    rate_limiter: settings.rateLimiter(),
  });
}

export const PMEM = defineSpec<PmemConfig>({
  kind: 'pmem',
  section: 'pmem',
  isList: true,
  entries,
  schema: () => listOf(pmem()),
  flag: {
    name: 'pmem',
    value: '<settings>',
    help: 'a file as persistent memory: path=FILE, with root, readonly, id=…, bw=SIZE (a second), iops=N; may be given again',
    parse: parseFlag,
  },
  // Linux numbers pmem devices in the order of their slots.
  hostSide: { idKey: 'id', keys: ['path_on_host', 'format', 'rate_limiter'] },
  rootWords: ({ root, readOnly }, index) =>
    root ? `root=/dev/pmem${index} ${readOnly ? 'ro' : 'rw'}` : undefined,
});

/** Ports of the virtio console in a configuration: Volt's own section `virtio-consoles`. */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import { filePath, flag, listOf, optional, section } from '../../schema/values.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { DeviceId } from '../host/values.ts';
import { MAX_CONSOLE_PORTS } from './regs.ts';

export interface ConsolePortConfig {
  readonly name: string;
  readonly socket: string | undefined;
  readonly file: string | undefined;
  /** A console (hvc0, …) rather than a generic port. */
  readonly tty: boolean;
}

export interface ConsoleDeviceConfig {
  readonly kind: 'console';
  readonly id: string;
  readonly ports: readonly ConsolePortConfig[];
}

const entries = () => ({
  name: DeviceId,
  socket: optional(filePath),
  file: optional(filePath),
  tty: optional(flag, false),
});

const port = () =>
  v.pipe(
    section(entries()),
    v.check(
      ({ socket, file }) => (socket === undefined) !== (file === undefined),
      () => 'it names no destination or two (expected either socket or file)',
    ),
    v.transform(({ name, socket, file, tty }): ConsolePortConfig => ({ name, socket, file, tty })),
  );

/** One device with all ports, or none without ports. */
const schema = () =>
  v.pipe(
    listOf(port()),
    v.maxLength(
      MAX_CONSOLE_PORTS,
      (issue) => `${issue.received} ports (expected at most ${MAX_CONSOLE_PORTS})`,
    ),
    v.check(
      (ports) => new Set(ports.map(({ name }) => name)).size === ports.length,
      () => 'two ports have the same name (expected different names)',
    ),
    v.transform((ports): readonly ConsoleDeviceConfig[] =>
      ports.length === 0 ? [] : [{ kind: 'console', id: 'console', ports }],
    ),
  );

function parseFlag(value: string, index: number): JsonObject {
  const settings = readSettings('--virtio-console', value, ['socket', 'file', 'name', 'tty']);
  return dropUndefined({
    name: settings.text('name', 'NAME') ?? `port${index}`,
    socket: settings.text('socket', 'FILE'),
    file: settings.text('file', 'FILE'),
    tty: settings.present('tty'),
  });
}

export const CONSOLE = defineSpec<ConsoleDeviceConfig>({
  kind: 'console',
  section: 'virtio-consoles',
  isList: true,
  hostSide: { idKey: 'name', keys: ['socket', 'file'] },
  entries,
  schema,
  flag: {
    name: 'virtio-console',
    value: '<settings>',
    help: 'a port of a virtio console: socket=FILE or file=FILE, with name=NAME, tty (hvc0, …); may be given again',
    parse: parseFlag,
  },
  socketPaths: ({ ports }) => ports.flatMap(({ socket }) => socket ?? []),
});

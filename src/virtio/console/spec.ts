/** Ports of the virtio console in a configuration: Volt's own section `virtio-consoles`. */
import * as v from 'valibot';
import { MAX_CONSOLE_PORTS } from './regs.ts';
import { flag, found, section, text } from '../../schema/values.ts';
import { DeviceId } from '../host/device-values.ts';

export interface ConsolePortConfig {
  readonly name: string;
  readonly socket: string | undefined;
  readonly file: string | undefined;
  /** A terminal, rather than a plain port. */
  readonly tty: boolean;
}

export interface ConsoleDeviceConfig {
  readonly kind: 'console';
  readonly id: string;
  readonly ports: readonly ConsolePortConfig[];
}

const PORT = {
  name: DeviceId,
  socket: v.optional(text),
  file: v.optional(text),
  tty: v.optional(flag, false),
} as const;

export const CONSOLE_KEYS: ReadonlySet<string> = new Set(Object.keys(PORT));

const PortSchema = v.pipe(
  section(PORT),
  v.check(
    ({ socket, file }) => (socket === undefined) !== (file === undefined),
    () => 'it goes nowhere, or to two places (expected socket or file)',
  ),
  v.transform(({ name, socket, file, tty }): ConsolePortConfig => ({ name, socket, file, tty })),
);

/** One device with all the ports; undefined without any. */
export const ConsolesSchema = v.optional(
  v.pipe(
    v.array(PortSchema, (issue) => `${found(issue.input)} (expected a list)`),
    v.maxLength(
      MAX_CONSOLE_PORTS,
      (issue) => `${issue.received} ports (expected at most ${MAX_CONSOLE_PORTS})`,
    ),
    v.check(
      (ports) => new Set(ports.map(({ name }) => name)).size === ports.length,
      () => 'two ports have the same name (expected different names)',
    ),
    v.transform((ports): ConsoleDeviceConfig | undefined =>
      ports.length === 0 ? undefined : { kind: 'console', id: 'console', ports },
    ),
  ),
  [],
);

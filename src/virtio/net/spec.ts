/**
 * Network interfaces in a configuration, in the shape of Firecracker's `network-interfaces`. The keys
 * `queues`, `user`, `forward`, `ports`, `create` and `vhost` are Volt's own.
 */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import {
  flag,
  found,
  listOf,
  optional,
  queueCount,
  section,
  text,
  wholeNumber,
} from '../../schema/values.ts';
import { VoltError } from '../../volt-error.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { DeviceId, NO_LIMITS, RateLimiterSchema } from '../host/values.ts';
import { ForwardSchema, PortsSchema, sharedPort, type PortForward } from './forwarding.ts';
import type { MmdsStart } from './mmds/start.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { MAX_QUEUE_PAIRS, NET_FEATURE } from './regs.ts';

export interface NetConfig {
  readonly kind: 'net';
  readonly id: string;
  /** Name of a tap; undefined: user-mode networking. */
  readonly tap: string | undefined;
  /** Whether a tap that does not exist is created; it then ends with Volt. */
  readonly creates: boolean;
  readonly mac: Uint8Array | undefined;
  /** MTU that the driver is told; undefined: the tap's. */
  readonly mtu: number | undefined;
  /** Ports that user-mode networking forwards to the guest. */
  readonly forwards: readonly PortForward[];
  /** Queue pairs. */
  readonly queues: number;
  /** Whether the kernel serves the queues; undefined: where it can. */
  readonly vhost?: boolean | undefined;
  readonly receiveLimits: RateLimits;
  readonly transmitLimits: RateLimits;
  /** The metadata service of this interface; not in a configuration. */
  readonly mmds?: MmdsStart;
}

/** As Linux's dev_valid_name: 1 to 15 characters, no slash, colon or space. */
const InterfaceName = v.pipe(
  text,
  v.regex(
    /^(?!\.{1,2}$)[\x21-\x2e\x30-\x39\x3b-\x7e]{1,15}$/,
    (issue) => `${found(issue.input)} (expected the name of a tap: up to 15 characters, no space, / or :)`,
  ),
);

const MacAddress = v.pipe(
  text,
  v.regex(
    /^(?!00(:00){5}$)[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i,
    (issue) => `${found(issue.input)} (expected a unicast MAC address such as 06:00:ac:10:00:02)`,
  ),
  v.transform((value) => Uint8Array.from(value.split(':'), (byte) => parseInt(byte, 16))),
);

/** VIRTIO_NET_F_MTU. (§5.1.4.1) */
const MIN_MTU = 68;
const MAX_MTU = 65_535;

const entries = () => ({
  iface_id: DeviceId,
  host_dev_name: optional(InterfaceName),
  guest_mac: optional(MacAddress),
  mtu: optional(wholeNumber(MIN_MTU, MAX_MTU)),
  rx_rate_limiter: optional(RateLimiterSchema),
  tx_rate_limiter: optional(RateLimiterSchema),
  queues: optional(queueCount(MAX_QUEUE_PAIRS), 1),
  user: optional(flag, false),
  forward: optional(listOf(ForwardSchema), []),
  ports: optional(listOf(PortsSchema), []),
  create: optional(flag, false),
  vhost: optional(flag),
});

const networkInterface = () =>
  v.pipe(
    section(entries()),
    v.check(
      ({ host_dev_name, user }) => user === (host_dev_name === undefined || host_dev_name === null),
      () => 'it names no network or two (expected either host_dev_name or user: true)',
    ),
    v.check(
      ({ user, queues }) => !user || queues === 1 || queues === 'auto',
      () => 'user-mode networking has one queue pair (expected queues: 1)',
    ),
    v.check(
      ({ user, forward, ports }) => user || (forward.length === 0 && ports.length === 0),
      () => 'only user-mode networking forwards ports (expected user: true)',
    ),
    v.check(
      ({ forward, ports }) => sharedPort([...forward, ...ports]) === undefined,
      ({ input }) =>
        `port ${sharedPort([...input.forward, ...input.ports])} is forwarded twice (expected each port once)`,
    ),
    v.transform((each): NetConfig => ({
      kind: 'net',
      forwards: [...each.forward, ...each.ports],
      id: each.iface_id,
      tap: each.host_dev_name ?? undefined,
      creates: each.create,
      mac: each.guest_mac ?? undefined,
      mtu: each.mtu ?? undefined,
      queues: each.queues === 'auto' ? 1 : each.queues,
      vhost: each.vhost ?? undefined,
      receiveLimits: each.rx_rate_limiter ?? NO_LIMITS,
      transmitLimits: each.tx_rate_limiter ?? NO_LIMITS,
    })),
  );

function parseFlag(value: string, index: number): JsonObject {
  const settings = readSettings('--net', value, [
    'tap',
    'user',
    'forward',
    'ports',
    'mac',
    'id',
    'queues',
    'vhost',
    'bw',
    'iops',
  ]);
  const tap = settings.text('tap', 'NAME');
  const user = settings.present('user');
  if ((user ?? false) === (tap !== undefined)) {
    throw new VoltError(
      'usage',
      `Cannot use --net ${value}: it names ${user ? 'two networks' : 'no network'} (expected either tap=NAME or user)`,
    );
  }
  const limiter = settings.rateLimiter();
  return dropUndefined({
    iface_id: settings.text('id', 'NAME') ?? `net${index}`,
    host_dev_name: tap,
    user,
    forward: settings.text('forward', '8080:80+2222:22')?.split('+'),
    ports: settings.text('ports', '80+443')?.split('+'),
    guest_mac: settings.text('mac', '06:00:ac:10:00:02'),
    queues: settings.quantityOrAuto('queues', `a number from 1 to ${MAX_QUEUE_PAIRS}`),
    vhost: settings.onOff('vhost'),
    rx_rate_limiter: limiter,
    tx_rate_limiter: limiter,
  });
}

export const NET = defineSpec<NetConfig>({
  kind: 'net',
  section: 'network-interfaces',
  isList: true,
  entries,
  schema: () => listOf(networkInterface()),
  flag: {
    name: 'net',
    value: '<settings>',
    help: 'a network interface: tap=NAME or user, with forward=8080:80, ports=80+443, mac=…, id=…, queues=N|auto, vhost, bw=SIZE (a second), iops=N; may be given again',
    parse: parseFlag,
  },
  hostSide: {
    idKey: 'iface_id',
    keys: ['host_dev_name', 'user', 'vhost', 'forward', 'ports', 'rx_rate_limiter', 'tx_rate_limiter'],
    keptKeys: ['guest_mac'],
  },
  featureBits: NET_FEATURE,
});

/**
 * Network interfaces in a configuration, in the shape of Firecracker's `network-interfaces`. The keys `queues` and
 * `user` are Volt's own.
 */
import * as v from 'valibot';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { MAX_QUEUE_PAIRS } from './regs.ts';
import { flag, found, section, text, wholeNumber } from '../../schema/values.ts';
import { DeviceId, NO_LIMITS, RateLimiterSchema } from '../host/device-values.ts';

export interface NetConfig {
  readonly kind: 'net';
  readonly id: string;
  /** Name of a tap; undefined: user-mode networking. */
  readonly tap: string | undefined;
  readonly mac: Uint8Array | undefined;
  /** Pairs of queues. */
  readonly queues: number;
  readonly receiveLimits: RateLimits;
  readonly transmitLimits: RateLimits;
}

/** Linux's dev_valid_name: 1 to 15 characters, no slash, colon or space. */
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
    /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i,
    (issue) => `${found(issue.input)} (expected an address of one machine such as 06:00:ac:10:00:02)`,
  ),
  v.transform((value) => Uint8Array.from(value.split(':'), (byte) => parseInt(byte, 16))),
);

const INTERFACE = {
  iface_id: DeviceId,
  host_dev_name: v.optional(v.nullable(InterfaceName)),
  guest_mac: v.optional(v.nullable(MacAddress)),
  rx_rate_limiter: v.optional(v.nullable(RateLimiterSchema)),
  tx_rate_limiter: v.optional(v.nullable(RateLimiterSchema)),
  queues: v.optional(wholeNumber(1, MAX_QUEUE_PAIRS), 1),
  user: v.optional(flag, false),
} as const;

export const INTERFACE_KEYS: ReadonlySet<string> = new Set(Object.keys(INTERFACE));

export const InterfaceSchema = v.pipe(
  section(INTERFACE),
  v.check(
    ({ host_dev_name, user }) => user === (host_dev_name === undefined || host_dev_name === null),
    () => 'it names no network, or two (expected host_dev_name, a tap, or user: true)',
  ),
  v.check(
    ({ user, queues }) => !user || queues === 1,
    () => 'several queues without a tap (expected queues: 1)',
  ),
  v.transform((each): NetConfig => ({
    kind: 'net',
    id: each.iface_id,
    tap: each.host_dev_name ?? undefined,
    mac: each.guest_mac ?? undefined,
    queues: each.queues,
    receiveLimits: each.rx_rate_limiter ?? NO_LIMITS,
    transmitLimits: each.tx_rate_limiter ?? NO_LIMITS,
  })),
);

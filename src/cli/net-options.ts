/** `--net`, and its way into the section `network-interfaces` of a configuration file. */
import { readWords, VoltError } from '../api/index.ts';

type Json = Record<string, unknown>;

export const NET_HELP =
  'a network interface: tap=NAME or user, with mac=…, id=…, queues=N, bw=SIZE (a second), iops=N; may be given again';

/** `index` names interfaces without an id. */
export function parseNet(text: string, index: number): Json {
  const words = readWords('--net', text, ['tap', 'user', 'mac', 'id', 'queues', 'bw', 'iops']);
  const tap = words.text('tap', 'NAME');
  const user = words.flag('user');
  if (user === (tap !== undefined)) {
    throw new VoltError(
      'usage',
      `Cannot use --net ${text}: it names ${user ? 'two networks' : 'no network'} (expected tap=NAME or user)`,
    );
  }
  const limiter = words.rateLimiter();
  return dropUndefined({
    iface_id: words.text('id', 'NAME') ?? `net${index}`,
    host_dev_name: tap,
    user: user || undefined,
    guest_mac: words.text('mac', '06:00:ac:10:00:02'),
    queues: words.quantity('queues', 'a number from 1 to 16'),
    rx_rate_limiter: limiter,
    tx_rate_limiter: limiter,
  });
}

/** For commander: each --net adds one. */
export function collectNet(text: string, before: readonly Json[] | undefined): readonly Json[] {
  const interfaces = before ?? [];
  return [...interfaces, parseNet(text, interfaces.length)];
}

export function dropUndefined(object: Json): Json {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

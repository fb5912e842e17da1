/** Values that nobody can mean, by kind: each is refused wherever such a value may be given. */
import { describe, expect, test } from 'bun:test';
import { parseRequest } from '../../../src/api/control/protocol.ts';
import { parseConfig } from '../../../src/config/config.ts';
import { BALLOON } from '../../../src/virtio/balloon/spec.ts';
import { BLOCK } from '../../../src/virtio/block/spec.ts';
import { NET } from '../../../src/virtio/net/spec.ts';
import { VSOCK } from '../../../src/virtio/vsock/spec.ts';
import { voltErrorOf } from '../support/errors.ts';

type Place = readonly [name: string, take: (value: unknown) => unknown];

const kernel = { 'boot-source': { kernel_image_path: 'k' } };
const section = (name: string, key: string, rest: object = {}): Place => [
  `${name}.${key}`,
  (value) => parseConfig({ ...kernel, [name]: { ...rest, [key]: value } }),
];
const item = (name: string, key: string, rest: object): Place => [
  `${name}[].${key}`,
  (value) => parseConfig({ ...kernel, [name]: [{ ...rest, [key]: value }] }),
];
const flag = (
  name: string,
  key: string,
  parse: (text: string, index: number) => object,
  toConfig: (part: object) => object,
): Place => [
  `${name} ${key}`,
  (value) => parseConfig({ ...kernel, ...toConfig(parse(`${key}${String(value)}`, 0)) }),
];
const method = (name: string, key: string, rest: object = {}): Place => [
  `ctl ${name} ${key}`,
  (value) => {
    const message = { jsonrpc: '2.0', id: 1, method: name, params: { ...rest, [key]: value } };
    const incoming = parseRequest(Buffer.from(JSON.stringify(message)));
    if (incoming.kind === 'refused') throw new Error(incoming.error.message);
    return incoming;
  },
];

const NOT_NUMBERS = ['', '12', 'many', true, [], {}, [1]];
const NOT_COUNTS = [-1, 0.5, 1.0000001, 2 ** 53, 1e300, ...NOT_NUMBERS];
const drive = { drive_id: 'a', path_on_host: 'p' };
const net = { iface_id: 'a', host_dev_name: 'tap0' };
const drives = (each: object) => ({ drives: [each] });
const nets = (each: object) => ({ 'network-interfaces': [each] });

const KINDS: readonly { kind: string; values: readonly unknown[]; places: readonly Place[] }[] = [
  {
    kind: 'counts and sizes from 1 on',
    values: [0, ...NOT_COUNTS],
    places: [
      section('machine-config', 'vcpu_count'),
      section('machine-config', 'mem_size_mib'),
      section('volt', 'max_cpus'),
      section('volt', 'sockets'),
      item('drives', 'queues', drive),
      item('network-interfaces', 'queues', net),
    ],
  },
  {
    kind: 'numbers of vCPUs, and sizes from 0 on',
    values: NOT_COUNTS,
    places: [
      section('volt', 'boot_cpu'),
      section('balloon', 'amount_mib'),
      section('balloon', 'stats_polling_interval_s'),
      method('regs', 'vcpu'),
      method('cpus', 'count'),
      method('balloon', 'mib'),
      method('start-ap', 'vector', { vcpu: 1 }),
    ],
  },
  {
    kind: 'MAC addresses',
    values: [
      '',
      '00:00:00:00:00:00',
      'ff:ff:ff:ff:ff:ff',
      '01:00:5e:00:00:01',
      '6:0:ac:10:0:2',
      '06:00:ac:10:00',
      '06:00:ac:10:00:02:03',
      '06-00-ac-10-00-02',
      ' 06:00:ac:10:00:02',
      '06:00:ac:10:00:0g',
    ],
    places: [item('network-interfaces', 'guest_mac', net), flag('--net', 'tap=t,mac=', NET.flag.parse, nets)],
  },
  {
    kind: 'ids',
    values: ['', '.', '..', 'a/b', 'a b', 'a\0b', 'a\nb', 'é', 'a'.repeat(65)],
    places: [
      item('drives', 'drive_id', { path_on_host: 'p' }),
      item('network-interfaces', 'iface_id', { host_dev_name: 'tap0' }),
      item('pmem', 'id', { path_on_host: 'p' }),
      flag('--disk', 'path=p,id=', BLOCK.flag.parse, drives),
    ],
  },
  {
    kind: 'paths',
    values: ['', '\0', 'a\0b', 5, true, [], {}, 'a'.repeat(4096)],
    places: [
      section('boot-source', 'kernel_image_path'),
      item('drives', 'path_on_host', { drive_id: 'a' }),
      item('pmem', 'path_on_host', { id: 'a' }),
      section('vsock', 'uds_path', { guest_cid: 3 }),
      section('volt', 'symbols'),
    ],
  },
  {
    kind: 'context ids of a guest',
    values: [0, 1, 2, 2 ** 32 - 1, 2 ** 32, -3, 3.5],
    places: [
      section('vsock', 'guest_cid', { uds_path: 'v' }),
      flag('--vsock', 'path=v,cid=', VSOCK.flag.parse, (vsock) => ({ vsock })),
    ],
  },
  {
    kind: 'lists of host CPUs',
    values: ['0=', '0=a', '0=1-0', '0=-1', '=1', '0=1,0=2', '0=99999999', '0=1;1=2', 'all'],
    places: [section('volt', 'cpu_affinity')],
  },
  {
    kind: 'sizes of flags',
    values: ['', '0.3M', '128', '-1M', '1e3M', 'M', '1 G B', '99999999T'],
    places: [flag('--balloon', 'size=', BALLOON.flag.parse, (balloon) => ({ balloon }))],
  },
];

for (const { kind, values, places } of KINDS) {
  describe(kind, () => {
    test.each(places.flatMap(([name, take]) => values.map((value) => ({ name, value, take }))))(
      '$name does not take $value',
      ({ name, value, take }) => {
        if (name.startsWith('ctl')) expect(() => take(value)).toThrow('Cannot');
        else expect(voltErrorOf(() => void take(value)).message).toStartWith('Cannot use ');
      },
    );
  });
}

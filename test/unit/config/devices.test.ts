import { describe, expect, test } from 'bun:test';
import { mergeConfig, parseConfig } from '../../../src/config/config.ts';
import type { BlockConfig } from '../../../src/virtio/block/spec.ts';
import { placeDevices, virtioCmdline } from '../../../src/virtio/host/placement.ts';
import { voltErrorOf } from '../support/errors.ts';

const kernel = { 'boot-source': { kernel_image_path: 'vmlinux' } };
const drive = (id: string, more: object = {}) => ({ drive_id: id, path_on_host: `${id}.img`, ...more });
const parse = (sections: object) => parseConfig({ ...kernel, ...sections });

describe('drives in the JSON of Firecracker', () => {
  test('may name the partition of the root disk that is the root file system', () => {
    const { config } = parse({ drives: [drive('a', { is_root_device: true, partuuid: '0eaa91a0-01' })] });

    expect(config.cmdline).toContain('root=PARTUUID=0eaa91a0-01 rw');
  });

  test('have everything that Firecracker says of them, and what Volt adds', () => {
    const { config, unknownKeys } = parse({
      drives: [
        drive('data', {
          is_root_device: false,
          is_read_only: true,
          cache_type: 'Unsafe',
          io_engine: 'Async',
          rate_limiter: {
            bandwidth: { size: 1000, one_time_burst: 5000, refill_time: 100 },
            ops: { size: 0, refill_time: 100 },
          },
          queues: 4,
          partuuid: 'x',
          locked: false,
          unheard_of: 'y',
        }),
      ],
    });

    expect(config.devices[0]).toMatchObject({
      kind: 'block',
      id: 'data',
      path: 'data.img',
      readOnly: true,
      cache: 'Unsafe',
      engine: 'Async',
      queues: 4,
      partuuid: 'x',
      locked: false,
      limits: { bandwidth: { size: 1000, burst: 5000, refillMs: 100 }, ops: undefined },
    });
    expect(unknownKeys).toEqual(['drives[0].unheard_of']);
  });

  test('have the root device first, and on the command line', () => {
    const drives = [drive('a'), drive('b', { is_root_device: true, is_read_only: true })];

    const { config } = parse({ drives, entropy: {} });

    expect(config.devices.map(({ id }) => id)).toEqual(['b', 'a', 'rng']);
    expect(config.cmdline).toEndWith(' root=/dev/vda ro');
  });

  test('are joined with those of the flags', () => {
    const merged = mergeConfig({ drives: [drive('a')] }, { drives: [drive('b')] });

    expect(parse(merged).config.devices.map(({ id }) => id)).toEqual(['a', 'b']);
  });

  test('keep what is in the page cache, unless told otherwise', () => {
    const [disk] = parse({ drives: [drive('a')] }).config.devices as [BlockConfig];

    expect([disk.cache, disk.direct, disk.queues, disk.engine]).toEqual(['Writeback', false, 1, undefined]);
  });

  test.each<[string, object, string]>([
    ['no list', { drives: 5 }, 'Cannot use drives: 5 (expected a list)'],
    ['no path', { drives: [{ drive_id: 'a' }] }, 'Cannot use drives.0: it names no disk or two'],
    [
      'an id with a slash',
      { drives: [drive('a/b')] },
      'Cannot use drives.0.drive_id: "a/b" (expected up to 64 letters',
    ],
    ['an id twice', { drives: [drive('a'), drive('a')] }, 'two block devices have the id a'],
    [
      'two roots',
      { drives: ['a', 'b'].map((id) => drive(id, { is_root_device: true })) },
      'two of them are root devices',
    ],
    ['too many queues', { drives: [drive('a', { queues: 17 })] }, 'Cannot use drives.0.queues: 17'],
    [
      'a cache nobody knows',
      { drives: [drive('a', { cache_type: 'Fast' })] },
      'expected Writeback, Writethrough, Unsafe',
    ],
    [
      '17 devices',
      { drives: Array.from({ length: 17 }, (_, i) => drive(`d${i}`)) },
      '17 virtio devices (expected at most 16',
    ],
  ])('are refused: %s', (_name, sections, message) => {
    const error = voltErrorOf(() => parse(sections));

    expect(error.code).toBe('config');
    expect(error.message).toContain(message);
  });
});

test('each device has a page and an interrupt of its own', () => {
  const { config } = parse({ drives: [drive('a'), drive('b')], entropy: {} });

  const places = placeDevices(config.devices, config);

  expect(places.map(({ address, bytes, gsi }): number[] => [address, bytes, gsi])).toEqual([
    [0xd000_0000, 4096, 5],
    [0xd000_1000, 4096, 6],
    [0xd000_2000, 4096, 7],
  ]);
  expect(virtioCmdline(places.slice(0, 2))).toBe(
    'virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6',
  );
});

test('without ACPI the command line announces the devices', () => {
  const { config } = parse({ drives: [drive('a')], volt: { acpi: false } });

  expect(config.cmdline).toEndWith(' virtio_mmio.device=4K@0xd0000000:5');
});

test('without ACPI devices of every kind are announced, and no more than have ISA interrupts', () => {
  const pmem = ['a', 'b'].map((id) => ({ id, path_on_host: id }));
  const rest = {
    pmem,
    shares: [{ id: 'share', tag: 'share', path_on_host: '/srv' }],
    'network-interfaces': [{ iface_id: 'net', host_dev_name: 'tap0' }],
    vsock: { guest_cid: 3, uds_path: 'v.sock' },
    'virtio-consoles': [{ name: 'port', socket: 'p.sock' }],
    balloon: {},
    entropy: {},
    volt: { acpi: false },
  };

  const { config } = parse(rest);
  const nine = voltErrorOf(() => parse({ ...rest, drives: [drive('d')] }));

  const irqs = [...config.cmdline.matchAll(/ virtio_mmio\.device=4K@0xd000(\d)000:(\d+)/g)].map(
    ([, page, irq]) => [Number(page), Number(irq)],
  );
  expect(irqs).toEqual([5, 6, 7, 10, 11, 12, 14, 15].map((irq, i) => [i, irq]));
  expect(nine.message).toBe(
    'Cannot use these devices: 9 virtio devices without ACPI (expected at most 8, because MP tables have ISA interrupts only)',
  );
  expect(parse({ ...rest, drives: [drive('d')], volt: {} }).config.devices).toHaveLength(9);
});

test('queues: auto is one queue or pair for each vCPU, up to 16, and one for user-mode networking', () => {
  const sections = {
    drives: [{ ...drive('a'), queues: 'auto' }],
    'network-interfaces': [
      { iface_id: 'tap', host_dev_name: 'tap0', queues: 'auto' },
      { iface_id: 'user', user: true, queues: 'auto' },
    ],
  };
  const queuesFor = (cpus: number) =>
    parse({ ...sections, 'machine-config': { vcpu_count: cpus, mem_size_mib: 512 } }).config.devices.map(
      (device) => ('queues' in device ? device.queues : 0),
    );

  expect([queuesFor(1), queuesFor(4), queuesFor(40)]).toEqual([
    [1, 1, 1],
    [4, 4, 1],
    [16, 16, 1],
  ]);
});

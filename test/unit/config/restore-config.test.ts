/** What a restored guest's host may give it otherwise, and what it may not. */
import { describe, expect, test } from 'bun:test';
import type { ConfigInput } from '../../../src/config/config.ts';
import { overrideConfig } from '../../../src/config/restore-config.ts';
import { ALL_SPECS } from '../../../src/virtio/host/specs.ts';
import { voltErrorOf } from '../support/errors.ts';

const SAVED: ConfigInput = {
  'boot-source': { kernel_image_path: '/boot/vmlinuz' },
  'machine-config': { vcpu_count: 4 },
  drives: [
    { drive_id: 'disk0', path_on_host: '/root.img', is_root_device: true, queues: 2, direct: true },
    { drive_id: 'data', path_on_host: '/data.img', is_read_only: true },
  ],
  'network-interfaces': [
    { iface_id: 'net0', host_dev_name: 'tap0', guest_mac: '06:00:00:00:00:01', queues: 2 },
  ],
  vsock: { guest_cid: 5, uds_path: '/run/v.sock' },
  balloon: { amount_mib: 0 },
  volt: { console: 'stdio', max_cpus: 8 },
};

/** The sections of flags, as `volt restore` makes them. */
function flags(...words: readonly (readonly [name: string, value: string])[]): ConfigInput {
  const sections: Record<string, unknown> = {};
  for (const [name, value] of words) {
    const { section, isList, flag } = ALL_SPECS.find((spec) => spec.flag.name === name)!;
    const before = (sections[section] ?? []) as unknown[];
    sections[section] = isList ? [...before, flag.parse(value, before.length)] : flag.parse(value, 0);
  }
  return sections;
}

describe('the configuration of a restored guest', () => {
  test('is the saved one without flags', () => {
    expect(overrideConfig(SAVED, {})).toEqual(SAVED);
  });

  test('has other files for the disk of this id, whose own settings of the host are gone', () => {
    const { drives } = overrideConfig(SAVED, flags(['disk', 'id=disk0,path=/root.img,overlay=/one.ovl']));

    expect(drives).toEqual([
      { drive_id: 'disk0', path_on_host: '/root.img', overlay: '/one.ovl', is_root_device: true, queues: 2 },
      { drive_id: 'data', path_on_host: '/data.img', is_read_only: true },
    ]);
  });

  test('names disks without an id as they were named', () => {
    const { drives } = overrideConfig(SAVED, flags(['disk', '/copy.img']));

    expect((drives as { path_on_host: string }[]).map((each) => each.path_on_host)).toEqual([
      '/copy.img',
      '/data.img',
    ]);
  });

  test('has another network under the same MAC address, or another address', () => {
    const same = overrideConfig(SAVED, flags(['net', 'tap=tap7']));
    const user = overrideConfig(SAVED, flags(['net', 'user,mac=06:00:00:00:00:02']));

    expect(same['network-interfaces']).toEqual([
      { iface_id: 'net0', host_dev_name: 'tap7', guest_mac: '06:00:00:00:00:01', queues: 2 },
    ]);
    expect(user['network-interfaces']).toEqual([
      { iface_id: 'net0', user: true, guest_mac: '06:00:00:00:00:02', queues: 2 },
    ]);
  });

  test('has another socket, and the context id that it was saved with', () => {
    expect(overrideConfig(SAVED, flags(['vsock', 'path=/two.sock']))['vsock']).toEqual({
      guest_cid: 5,
      uds_path: '/two.sock',
    });
  });

  test('has another console and affinity beside what the guest sees', () => {
    const over = { volt: { console: 'none', cpu_affinity: '0=1' } };

    expect(overrideConfig(SAVED, over)['volt']).toEqual({
      console: 'none',
      cpu_affinity: '0=1',
      max_cpus: 8,
    });
  });
});

describe('refused is', () => {
  test.each([
    [
      'an unknown disk',
      flags(['disk', 'id=disk9,path=/x']),
      '--disk: the guest has no disk9 (expected id=disk0, data)',
    ],
    [
      'an added disk',
      flags(['disk', '/a'], ['disk', '/b']),
      '--disk: the guest has no disk1 (expected id=disk0, data)',
    ],
    [
      'queues',
      flags(['disk', 'id=disk0,path=/x,queues=4']),
      '--disk: queues is 4, which the guest would see',
    ],
    [
      'a read-only disk',
      flags(['disk', 'id=disk0,path=/x,readonly']),
      '--disk: is_read_only is true, which the guest would see',
    ],
    ['a context id', flags(['vsock', 'path=/x,cid=9']), '--vsock: guest_cid is 9, which the guest would see'],
    ['a balloon', flags(['balloon', 'size=1M']), '--balloon: nothing of this device can be changed'],
    [
      'more vCPUs',
      { 'machine-config': { vcpu_count: 8 } },
      'machine-config: the guest has its machine-config from its snapshot',
    ],
    ['room for vCPUs', { volt: { max_cpus: 9 } }, 'volt.max_cpus: the guest has it from its snapshot'],
  ])('%s', (_what, over, message) => {
    expect(voltErrorOf(() => overrideConfig(SAVED, over))).toEqual({
      code: 'config',
      message: `Cannot restore with another ${message}; leave it out`,
    });
  });

  test('a device of a kind that the guest does not have', () => {
    expect(voltErrorOf(() => overrideConfig({}, flags(['vsock', 'path=/x']))).message).toBe(
      'Cannot restore with another --vsock: the guest has no vsock; leave it out',
    );
  });
});

import { describe, expect, test } from 'bun:test';
import { parseConfig } from '../../../../src/config/config.ts';
import { voltErrorOf } from '../../support/errors.ts';

const kernel = { 'boot-source': { kernel_image_path: 'vmlinux' } };
const parse = (sections: object) => parseConfig({ ...kernel, ...sections });
const parseNet = (...interfaces: object[]) => parse({ 'network-interfaces': interfaces });
const NO_LIMITS = { bandwidth: undefined, ops: undefined };

describe('network interfaces in the JSON of Firecracker', () => {
  test('have everything that Firecracker says of them, and what Volt adds', () => {
    const { config, unknownKeys } = parseNet({
      iface_id: 'eth0',
      guest_mac: '06:00:AC:10:00:02',
      host_dev_name: 'tap0',
      rx_rate_limiter: { bandwidth: { size: 1000, refill_time: 100 } },
      queues: 4,
      mtu: 9000,
      speed: 1,
    });

    expect(config.devices).toEqual([
      {
        kind: 'net',
        forwards: [],
        creates: false,
        mtu: 9000,
        id: 'eth0',
        tap: 'tap0',
        mac: Uint8Array.of(6, 0, 0xac, 0x10, 0, 2),
        queues: 4,
        receiveLimits: { bandwidth: { size: 1000, burst: 0, refillMs: 100 }, ops: undefined },
        transmitLimits: NO_LIMITS,
      },
    ]);
    expect(unknownKeys).toEqual(['network-interfaces[0].speed']);
  });

  test('may be without a tap', () => {
    const [device] = parseNet({ iface_id: 'net0', user: true }).config.devices;

    expect(device).toMatchObject({ kind: 'net', creates: false, tap: undefined, mac: undefined, queues: 1 });
  });

  test.each([
    [{ iface_id: 'a' }, 'it names no network or two (expected either host_dev_name or user: true)'],
    [{ iface_id: 'a', host_dev_name: 'tap0', user: true }, 'it names no network or two'],
    [
      { iface_id: 'a', user: true, queues: 2 },
      'user-mode networking has one queue pair (expected queues: 1)',
    ],
    [{ iface_id: 'a', host_dev_name: 'a name' }, '"a name" (expected the name of a tap'],
    [{ iface_id: 'a', host_dev_name: '..' }, '".." (expected the name of a tap'],
    [{ iface_id: 'a', host_dev_name: 'sixteen-letters-' }, '(expected the name of a tap'],
    [
      { iface_id: 'a', host_dev_name: 't', guest_mac: '01:00:5e:00:00:01' },
      '(expected a unicast MAC address',
    ],
    [{ iface_id: 'a', host_dev_name: 't', guest_mac: '06:00:ac' }, '(expected a unicast MAC address'],
    [{ iface_id: 'a', host_dev_name: 't', queues: 17 }, '17 (expected a whole number from 1 to 16)'],
    [{ host_dev_name: 'tap0' }, 'iface_id: nothing (expected a value)'],
  ])('are refused: %j', (each, problem) => {
    expect(voltErrorOf(() => parseNet(each)).message).toContain(problem);
  });

  test('have different names', () => {
    const same = { iface_id: 'a', host_dev_name: 'tap0' };

    expect(voltErrorOf(() => parseNet(same, same)).message).toContain('two net devices have the id a');
  });
});

describe('vsock in the JSON of Firecracker', () => {
  test('has a context id and a path', () => {
    const { config, unknownKeys } = parse({
      vsock: { guest_cid: 3, uds_path: '/tmp/v.sock', vsock_id: 'x' },
    });

    expect(config.devices).toEqual([{ kind: 'vsock', id: 'vsock', guestCid: 3, path: '/tmp/v.sock' }]);
    expect(unknownKeys).toEqual([]);
  });

  test.each([
    [{ guest_cid: 2, uds_path: 'v' }, '2 (expected a whole number from 3 to 4294967294)'],
    [{ guest_cid: 2 ** 32 - 1, uds_path: 'v' }, '(expected a whole number from 3 to 4294967294)'],
    [{ guest_cid: 3 }, 'uds_path: nothing (expected a value)'],
    [[], '[] (expected an object)'],
  ])('is refused: %j', (vsock, problem) => {
    expect(voltErrorOf(() => parse({ vsock })).message).toContain(problem);
  });
});

describe('the balloon in the JSON of Firecracker', () => {
  test('has a size, an interval, and what to do when memory runs out', () => {
    const balloon = { amount_mib: 64, deflate_on_oom: true, stats_polling_interval_s: 5 };

    expect(parse({ balloon }).config.devices).toEqual([
      { kind: 'balloon', id: 'balloon', mib: 64, deflateOnOom: true, statsSeconds: 5 },
    ]);
  });

  test('is empty and quiet unless told otherwise', () => {
    const [device] = parse({ balloon: {} }).config.devices;

    expect(device).toMatchObject({ mib: 0, deflateOnOom: false, statsSeconds: 0 });
  });

  test.each([
    [{ amount_mib: -1 }, '-1 (expected a whole number from 0'],
    [{ stats_polling_interval_s: 65_536 }, '65536 (expected a whole number from 0 to 65535 s)'],
    [{ deflate_on_oom: 1 }, '1 (expected true or false)'],
  ])('is refused: %j', (balloon, problem) => {
    expect(voltErrorOf(() => parse({ balloon })).message).toContain(problem);
  });
});

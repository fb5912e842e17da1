import { describe, expect, test } from 'bun:test';
import { parseConfig } from '../../../../src/config/config.ts';
import { noteChange, withChangedSettings } from '../../../../src/virtio/host/current-settings.ts';

const BUCKET = { size: 5, burst: 1, refillMs: 100 };
const JSON_BUCKET = { size: 5, one_time_burst: 1, refill_time: 100 };

describe('the configuration of a device that was changed while it ran', () => {
  test('has the new limits, and those that were not changed', () => {
    const drives = [
      { drive_id: 'a', path_on_host: '/a' },
      { drive_id: 'b', path_on_host: '/b', rate_limiter: { ops: JSON_BUCKET, bandwidth: JSON_BUCKET } },
    ];
    const first = noteChange({}, { kind: 'limits', limits: { ops: { ...BUCKET, size: 7 } } });
    const settings = noteChange(first, { kind: 'limits', limits: { bandwidth: null } });

    const { drives: changed } = withChangedSettings({ drives }, [{ kind: 'block', id: 'b', settings }]);

    expect(changed).toEqual([
      drives[0],
      {
        drive_id: 'b',
        path_on_host: '/b',
        rate_limiter: { ops: { ...JSON_BUCKET, size: 7 }, bandwidth: null },
      },
    ]);
  });

  test('passes the gate of configurations', () => {
    const input = {
      'network-interfaces': [{ iface_id: 'net0', host_dev_name: 'tap0' }],
      balloon: { amount_mib: 0, stats_polling_interval_s: 1 },
    };
    const limits = { kind: 'net-limits', receive: { ops: BUCKET }, transmit: { ops: null } } as const;
    const net = { kind: 'net', id: 'net0', settings: noteChange({}, limits) } as const;
    const polling = noteChange({}, { kind: 'balloon-polling', seconds: 9 });

    const changed = withChangedSettings(input, [net, { kind: 'balloon', id: 'balloon', settings: polling }]);

    const { devices } = parseConfig(changed).config;
    expect(devices).toMatchObject([
      { id: 'net0', receiveLimits: { ops: BUCKET }, transmitLimits: { ops: undefined } },
      { kind: 'balloon' },
    ]);
    expect(changed['balloon']).toEqual({ amount_mib: 0, stats_polling_interval_s: 9 });
  });
});

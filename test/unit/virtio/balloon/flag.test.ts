import { expect, test } from 'bun:test';
import { BALLOON } from '../../../../src/virtio/balloon/spec.ts';
import { voltErrorOf } from '../../support/errors.ts';

test('--balloon takes a size, an interval and deflate-on-oom', () => {
  expect(BALLOON.flag.parse('size=1G,stats=5,deflate-on-oom', 0)).toEqual({
    amount_mib: 1024,
    stats_polling_interval_s: 5,
    deflate_on_oom: true,
  });
  expect(BALLOON.flag.parse('stats=1', 0)).toEqual({ stats_polling_interval_s: 1 });
});

test('--balloon refuses a size without a unit', () => {
  expect(voltErrorOf(() => BALLOON.flag.parse('size=128', 0)).message).toBe(
    'Cannot use --balloon size=128: size is 128 (expected a size in whole MiB, such as 512M or 2G)',
  );
});

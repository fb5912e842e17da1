import { describe, expect, test } from 'bun:test';
import { collectDisk, parseDisk } from '../../../../src/cli/device-options.ts';
import { voltErrorOf } from '../../support/errors.ts';

describe('--disk', () => {
  test('takes a bare path, commas and all', () => {
    expect(parseDisk('/images/a,b.img', 0)).toEqual({ drive_id: 'disk0', path_on_host: '/images/a,b.img' });
  });

  test('takes words', () => {
    const words = 'path=a.img,readonly,id=data,cache=writethrough,direct,overlay=b.ov,queues=4,engine=async';

    expect(parseDisk(words, 3)).toEqual({
      drive_id: 'data',
      path_on_host: 'a.img',
      is_read_only: true,
      cache_type: 'Writethrough',
      direct: true,
      overlay: 'b.ov',
      queues: 4,
      io_engine: 'Async',
    });
  });

  test('takes limits per second', () => {
    expect(parseDisk('path=a,bw=10M,iops=500', 0)['rate_limiter']).toEqual({
      bandwidth: { size: 10 * 2 ** 20, refill_time: 1000 },
      ops: { size: 500, refill_time: 1000 },
    });
  });

  test('may be given again', () => {
    const disks = collectDisk('b', collectDisk('a', undefined));

    expect(disks.map((disk) => [disk['drive_id'], disk['path_on_host']])).toEqual([
      ['disk0', 'a'],
      ['disk1', 'b'],
    ]);
  });

  test.each([
    ['path=', 'path has no value (expected path=FILE)'],
    ['path=a,path=b', 'path is there twice'],
    ['path=a,readonly=yes', 'readonly has a value (expected readonly alone)'],
    ['path=a,cache=fast', 'cache is fast (expected writeback, writethrough, unsafe)'],
    ['path=a,bw=fast', 'bw is fast (expected bytes per second'],
    ['path=a,iops=0', 'iops is 0'],
    ['path=a,', 'there is no empty word'],
    ['path=a,size=3', 'there is no size (expected path, readonly'],
    ['readonly,path=a,constructor=1', 'there is no constructor'],
    ['path=a,cache=toString', 'cache is toString'],
  ])('is refused: %s', (text, message) => {
    const error = voltErrorOf(() => parseDisk(text, 0));

    expect(error.code).toBe('usage');
    expect(error.message).toContain(`Cannot use --disk ${text}: `);
    expect(error.message).toContain(message);
  });
});

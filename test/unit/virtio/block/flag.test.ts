import { describe, expect, test } from 'bun:test';
import { BLOCK } from '../../../../src/virtio/block/spec.ts';
import { voltErrorOf } from '../../support/errors.ts';

const parse = (text: string, index = 0) => BLOCK.flag.parse(text, index);

describe('--disk', () => {
  test('takes a bare path, commas and all', () => {
    expect(parse('/images/a,b.img')).toEqual({ drive_id: 'disk0', path_on_host: '/images/a,b.img' });
  });

  test('takes words', () => {
    const words = 'path=a.img,readonly,id=data,cache=writethrough,direct,overlay=b.ov,queues=4,engine=async';

    expect(parse(words, 3)).toEqual({
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
    expect(parse('path=a,bw=10M,iops=500')['rate_limiter']).toEqual({
      bandwidth: { size: 10 * 2 ** 20, refill_time: 1000 },
      ops: { size: 500, refill_time: 1000 },
    });
  });

  test.each([
    ['path=', 'path has no value (expected path=FILE)'],
    ['path=a,path=b', 'path is given twice'],
    ['path=a,readonly=yes', 'readonly takes no value (expected readonly alone)'],
    ['path=a,cache=fast', 'cache is fast (expected writeback, writethrough, unsafe)'],
    ['path=a,bw=fast', 'bw is fast (expected bytes per second'],
    ['path=a,iops=0', 'iops is 0'],
    ['path=a,', 'an empty setting'],
    ['path=a,size=3', 'unknown key size (expected path, socket, secret'],
    ['readonly,path=a,constructor=1', 'unknown key constructor'],
    ['path=a,cache=toString', 'cache is toString'],
  ])('is refused: %s', (text, message) => {
    const error = voltErrorOf(() => parse(text));

    expect(error.code).toBe('usage');
    expect(error.message).toContain(`Cannot use --disk ${text}: `);
    expect(error.message).toContain(message);
  });
});

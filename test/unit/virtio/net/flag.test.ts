import { describe, expect, test } from 'bun:test';
import { parseBalloon } from '../../../../src/cli/balloon-options.ts';
import { collectNet, parseNet } from '../../../../src/cli/net-options.ts';
import { parseVsock } from '../../../../src/cli/vsock-options.ts';
import { voltErrorOf } from '../../support/errors.ts';

describe('--net', () => {
  test('takes a tap with all its words', () => {
    const limiter = {
      bandwidth: { size: 2 ** 20, refill_time: 1000 },
      ops: { size: 500, refill_time: 1000 },
    };

    expect(parseNet('tap=tap0,mac=06:00:ac:10:00:02,id=eth0,queues=2,bw=1M,iops=500', 0)).toEqual({
      iface_id: 'eth0',
      host_dev_name: 'tap0',
      guest_mac: '06:00:ac:10:00:02',
      queues: 2,
      rx_rate_limiter: limiter,
      tx_rate_limiter: limiter,
    });
  });

  test('takes the user for a network, and may be given again', () => {
    expect(collectNet('user', collectNet('tap=a', undefined))).toEqual([
      { iface_id: 'net0', host_dev_name: 'a' },
      { iface_id: 'net1', user: true },
    ]);
  });

  test.each([
    ['queues=2', 'it names no network (expected tap=NAME or user)'],
    ['tap=a,user', 'it names two networks (expected tap=NAME or user)'],
    ['tap', 'tap has no value (expected tap=NAME)'],
    ['user=1', 'user has a value (expected user alone)'],
    ['tap=a,tap=b', 'tap is there twice (expected each word once)'],
    ['tap=a,speed=9', 'there is no speed (expected tap, user, mac, id, queues, bw, iops)'],
    ['tap=a,', 'there is no empty word'],
    ['tap=a,bw=fast', 'bw is fast (expected bytes per second such as 10M)'],
    ['tap=a,queues=0', 'queues is 0 (expected a number from 1 to 16)'],
  ])('refuses %s', (text, problem) => {
    expect(voltErrorOf(() => parseNet(text, 0)).message).toStartWith(`Cannot use --net ${text}: ${problem}`);
  });
});

test('--vsock takes a path and a context id', () => {
  expect(parseVsock('path=v.sock')).toEqual({ uds_path: 'v.sock', guest_cid: 3 });
  expect(parseVsock('cid=42,path=v.sock')).toEqual({ uds_path: 'v.sock', guest_cid: 42 });
});

test('--balloon takes a size, an interval and deflate-on-oom', () => {
  expect(parseBalloon('size=1G,stats=5,deflate-on-oom')).toEqual({
    amount_mib: 1024,
    stats_polling_interval_s: 5,
    deflate_on_oom: true,
  });
  expect(parseBalloon('stats=1')).toEqual({ stats_polling_interval_s: 1 });
});

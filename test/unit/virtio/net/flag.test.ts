import { describe, expect, test } from 'bun:test';
import { NET } from '../../../../src/virtio/net/spec.ts';
import { voltErrorOf } from '../../support/errors.ts';

const parse = (text: string, index = 0) => NET.flag.parse(text, index);

describe('--net', () => {
  test('takes a tap with all its words', () => {
    const limiter = {
      bandwidth: { size: 2 ** 20, refill_time: 1000 },
      ops: { size: 500, refill_time: 1000 },
    };

    expect(parse('tap=tap0,mac=06:00:ac:10:00:02,id=eth0,queues=2,bw=1M,iops=500')).toEqual({
      iface_id: 'eth0',
      host_dev_name: 'tap0',
      guest_mac: '06:00:ac:10:00:02',
      queues: 2,
      rx_rate_limiter: limiter,
      tx_rate_limiter: limiter,
    });
  });

  test('takes user-mode networking, and numbers interfaces without an id', () => {
    expect([parse('tap=a', 0), parse('user', 1)]).toEqual([
      { iface_id: 'net0', host_dev_name: 'a' },
      { iface_id: 'net1', user: true },
    ]);
  });

  test('takes ports to forward', () => {
    expect(parse('user,forward=8080:80+127.0.0.1:2222:22,ports=443+8000-8010')).toEqual({
      iface_id: 'net0',
      user: true,
      forward: ['8080:80', '127.0.0.1:2222:22'],
      ports: ['443', '8000-8010'],
    });
  });

  test.each([
    ['queues=2', 'it names no network (expected either tap=NAME or user)'],
    ['tap=a,user', 'it names two networks (expected either tap=NAME or user)'],
    ['tap', 'tap has no value (expected tap=NAME)'],
    ['user=1', 'user takes no value (expected user alone)'],
    ['tap=a,tap=b', 'tap is given twice (expected each key once)'],
    [
      'tap=a,speed=9',
      'unknown key speed (expected tap, user, forward, ports, mac, id, queues, vhost, bw, iops)',
    ],
    ['tap=a,', 'an empty setting'],
    ['tap=a,bw=fast', 'bw is fast (expected bytes per second such as 10M, at least 4K)'],
    ['tap=a,queues=0', 'queues is 0 (expected a number from 1 to 16, or auto)'],
  ])('refuses %s', (text, problem) => {
    expect(voltErrorOf(() => parse(text)).message).toStartWith(`Cannot use --net ${text}: ${problem}`);
  });
});

import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { VcpuRates } from '../../../src/cli/top-rates.ts';
import { formatTop } from '../../../src/cli/top-table.ts';
import { FAKE_STATUS } from '../api/control-support.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const RATES: readonly VcpuRates[] = [
  {
    index: 0,
    state: 'running',
    mpState: 'runnable',
    hostCpu: 1,
    cpuPercent: 99.5,
    stealPercent: 0,
    exitsPerSecond: 1234.5,
    exits: { io: 1000, hlt: 200, mmio: 30, intr: 4.5 },
    rip: '0xffffffff81c00a13',
    symbol: 'default_idle+0x13',
  },
  { index: 1, state: 'waiting-for-sipi', exitsPerSecond: 0, exits: {} },
];
const plain = (width: number) => formatTop(FAKE_STATUS, RATES, { width, colour: false });
const titlesAt = (width: number) => plain(width)[1]!.split(/ {2,}/);

test('a table has a line for the guest, one of titles and one for each vCPU', () => {
  expect(plain(Infinity)).toEqual([
    'guest 4711: running, 2 vCPUs, up 1.5s, /boot/vmlinux-ä',
    'VCPU  STATE             MP STATE  HOST  CPU%  STEAL%  EXITS/s  MOST                       RIP',
    '   0  running           runnable     1  99.5     0.0     1235  io 1000, hlt 200, mmio 30  0xffffffff81c00a13 default_idle+0x13',
    '   1  waiting-for-sipi  -            -     -       -        0  -                          -',
  ]);
});

describe('a narrow window', () => {
  test('takes the columns that matter least away, one by one', () => {
    const titles = [140, 110, 95, 85, 80].map((width) => titlesAt(width).join(' ').trim());
    expect(titles).toEqual([
      'VCPU STATE MP STATE HOST CPU% STEAL% EXITS/s MOST RIP',
      'VCPU STATE MP STATE HOST CPU% STEAL% EXITS/s RIP',
      'VCPU STATE HOST CPU% STEAL% EXITS/s RIP',
      'VCPU STATE CPU% STEAL% EXITS/s RIP',
      'VCPU STATE CPU% EXITS/s RIP',
    ]);
  });

  test.each([200, 120, 80, 40, 20, 5])('of %p characters has no longer line', (width) => {
    expect(Math.max(...plain(width).map((line) => line.length))).toBeLessThanOrEqual(width);
  });
});

describe('colours', () => {
  const coloured = (width: number) => formatTop(FAKE_STATUS, RATES, { width, colour: true });
  const bare = (lines: string[]) => lines.map((line) => line.replace(/\x1b\[\d+m/g, ''));

  test('change nothing but colours', () => {
    expect(bare(coloured(90))).toEqual(plain(90));
    expect(coloured(90)[2]).toContain('\x1b[32mrunning\x1b[0m');
  });

  test('are never cut in two', () => {
    for (let width = 5; width < 130; width++) {
      expect(bare(coloured(width))).toEqual(plain(width));
      expect(
        coloured(width)
          .join('')
          .match(/\x1b\[0m/g)?.length,
      ).toBe(
        coloured(width)
          .join('')
          .match(/\x1b\[[1-9]\d*m/g)?.length,
      );
    }
  });
});

test("what a guest's process says cannot steer the terminal", () => {
  const rates = [{ ...RATES[0]!, symbol: '\x1b[2J\r\nx' }];
  expect(formatTop(FAKE_STATUS, rates, { width: Infinity, colour: false }).join('\n')).not.toContain('\x1b');
});

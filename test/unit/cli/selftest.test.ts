import { describe, expect, test } from 'bun:test';
import type { SelftestRow } from '../../../src/api/index.ts';
import { formatRow, formatVerdict } from '../../../src/cli/selftest.ts';

const PASSED: SelftestRow = {
  cpus: 4,
  passed: true,
  reason: undefined,
  online: 4,
  tablesAgree: true,
  pingMeanUs: 12.34,
  speedup: 1.5,
  stealPercent: 3,
  busyHost: false,
  wallMs: 250,
};
const FAILED = { ...PASSED, passed: false, online: 3, reason: 'CPU 3 did not come up' };
const BUSY = { stealPercent: 70, busyHost: true };

describe('a row of volt selftest', () => {
  test.each<[string, SelftestRow, string]>([
    ['that passed', PASSED, '     4     pass       4   agree      12.3 us     1.50x     250 ms'],
    [
      'that passed on a busy host',
      { ...PASSED, ...BUSY },
      '     4     pass       4   agree      12.3 us     1.50x     250 ms  busy host: vCPU 0 waited 70% of the time for a host CPU',
    ],
    [
      'that failed on a quiet host',
      FAILED,
      '     4     FAIL       3   agree      12.3 us     1.50x     250 ms  CPU 3 did not come up (the host was not busy)',
    ],
    [
      'that failed on a busy host',
      { ...FAILED, ...BUSY },
      '     4     FAIL       3   agree      12.3 us     1.50x     250 ms  CPU 3 did not come up (busy host: vCPU 0 waited 70% of the time for a host CPU)',
    ],
    [
      'that failed on a host that counts no steal time',
      { ...FAILED, stealPercent: undefined },
      '     4     FAIL       3   agree      12.3 us     1.50x     250 ms  CPU 3 did not come up',
    ],
  ])('%s', (_, row, text) => {
    expect(formatRow(row)).toBe(text);
  });
});

describe('the last line of volt selftest', () => {
  test.each<[string, SelftestRow[], string]>([
    ['all passed', [PASSED, { ...PASSED, ...BUSY }], 'All passed.'],
    ['one failed on a quiet host', [FAILED, { ...FAILED, ...BUSY }], 'Some runs failed.'],
    [
      'failures on a busy host only',
      [PASSED, { ...FAILED, ...BUSY }],
      'Some runs failed, and the host was busy; run it again when the host is idle.',
    ],
  ])('%s', (_, rows, text) => {
    expect(formatVerdict(rows)).toBe(text);
  });
});

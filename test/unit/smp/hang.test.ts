import { describe, expect, test } from 'bun:test';
import {
  diagnoseGuest,
  diagnoseVcpu,
  SAMPLES_NEEDED,
  canMakeProgress,
  type HangSample,
} from '../../../src/smp/hang.ts';

const SECOND_NS = 1e9;
const HALTED: HangSample = {
  answered: true,
  state: 'halted',
  interruptsOn: false,
  rip: 0x1000n,
  registers: [1n, 2n],
  runtimeNs: 0,
  waitNs: 0,
};
const SPINNING: HangSample = { ...HALTED, state: 'running' };
const looks =
  (...samples: Partial<HangSample>[]) =>
  (base: HangSample) =>
    samples.map((each) => ({ ...base, ...each }));
const four = (base: HangSample) => looks({}, {}, {}, {})(base);
const judge = (samples: readonly HangSample[]) => diagnoseVcpu(samples, SECOND_NS);

describe('a vCPU does not go on', () => {
  test.each([
    ['halted with interrupts off', four(HALTED), 'halted-for-good'],
    ['at one instruction with interrupts off', four(SPINNING), 'spins'],
    [
      'in a short loop',
      looks({ rip: 0x1000n }, { rip: 0x1040n }, { rip: 0x1004n }, { rip: 0x1000n })(SPINNING),
      'spins',
    ],
    [
      'in a loop that reads the same again and again',
      looks(
        { registers: [0n, 7n] },
        { registers: [1n, 7n] },
        { registers: [0n, 7n] },
        { registers: [1n, 7n] },
      )(SPINNING),
      'spins',
    ],
    ['that waits for a SIPI', four({ ...HALTED, state: 'waiting-for-sipi' }), 'waits-for-sipi'],
    [
      'that does not come out of KVM_RUN and does not run',
      looks({}, {}, {}, { runtimeNs: 1e6, waitNs: 1e6 })({ ...SPINNING, answered: false }),
      'stalled',
    ],
  ] as const)('%s', (_, samples, reason) => {
    expect(judge(samples)).toBe(reason);
  });
});

describe('a vCPU may go on', () => {
  test.each([
    ['halted with interrupts on', four({ ...HALTED, interruptsOn: true })],
    ['running with interrupts on', four({ ...SPINNING, interruptsOn: true })],
    ['with interrupts on once', looks({}, {}, { interruptsOn: true }, {})(SPINNING)],
    ['that was halted elsewhere before', looks({}, {}, { rip: 0x2000n }, { rip: 0x2000n })(HALTED)],
    ['that was found elsewhere', looks({}, {}, { rip: 0x1041n }, {})(SPINNING)],
    [
      'that counts',
      looks(
        { registers: [0n, 1n] },
        { registers: [0n, 2n] },
        { registers: [0n, 3n] },
        { registers: [0n, 4n] },
      )(SPINNING),
    ],
    ['that ran and is halted', looks({ state: 'running' }, {}, {}, {})(HALTED)],
    ['that answered once', looks({}, {}, { answered: true }, {})({ ...SPINNING, answered: false })],
    ['that only had no host CPU', looks({}, {}, {}, { waitNs: SECOND_NS })({ ...SPINNING, answered: false })],
    [
      'that runs and does not answer',
      looks({}, {}, {}, { runtimeNs: SECOND_NS / 2 })({ ...SPINNING, answered: false }),
    ],
    ['that is paused', four({ ...HALTED, state: 'paused' })],
    ['that was looked at too seldom', four(HALTED).slice(1)],
    ['that nobody looked at', []],
  ] as const)('%s', (_, samples) => {
    expect(judge(samples)).toBeUndefined();
  });
});

test('one look shows that a vCPU may go on when its interrupts are on, and it does not wait for a SIPI', () => {
  const states = ['running', 'halted', 'waiting-for-sipi', 'paused', 'stopped', 'created'] as const;
  const on = states.filter((state) => canMakeProgress({ ...HALTED, state, interruptsOn: true }));
  const off = states.filter((state) => canMakeProgress({ ...HALTED, state, interruptsOn: false }));
  expect([on, off]).toEqual([['running', 'halted'], []]);
  expect(canMakeProgress({ ...HALTED, answered: false, interruptsOn: true })).toBe(false);
});

test('a guest hangs when no vCPU goes on', () => {
  const waiting = four({ ...HALTED, state: 'waiting-for-sipi' });
  const idle = four({ ...HALTED, interruptsOn: true });

  expect(diagnoseGuest([four(HALTED), four(SPINNING), waiting], SECOND_NS)).toEqual([
    'halted-for-good',
    'spins',
    'waits-for-sipi',
  ]);
  expect(diagnoseGuest([four(HALTED), idle, waiting], SECOND_NS)).toBeUndefined();
  expect(SAMPLES_NEEDED).toBe(4);
});

import { expect, test } from 'bun:test';
import { lifecycleState, mpStateName, type VcpuState } from '../../../src/smp/vcpu-state.ts';

test.each([
  ['created', 'runnable', 'created'],
  ['running', 'runnable', 'running'],
  ['running', 'halted', 'halted'],
  ['running', 'uninitialized', 'waiting-for-sipi'],
  ['running', 'init-received', 'waiting-for-sipi'],
  ['running', 'sipi-received', 'running'],
  ['paused', 'halted', 'paused'],
  ['stopped', 'runnable', 'stopped'],
] as const)(
  'a worker that is %s with a vCPU whose MP state is %s makes it %s',
  (phase, mpState, expected: VcpuState) => {
    expect(lifecycleState(phase, mpState)).toBe(expected);
  },
);

test('MP states are named in the order of their numbers', () => {
  expect([0, 1, 2, 3, 4, 5].map(mpStateName)).toEqual([
    'runnable',
    'uninitialized',
    'init-received',
    'halted',
    'sipi-received',
    'unknown',
  ]);
});

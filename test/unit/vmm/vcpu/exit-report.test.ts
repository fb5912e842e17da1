import { expect, test } from 'bun:test';
import { EXIT, RUN, SYSTEM_EVENT } from '../../../../src/kvm/abi.ts';
import { exitName, reportExit } from '../../../../src/vmm/vcpu/exit-report.ts';

/** No descriptor: these reports read no registers. */
const NO_VCPU = -1;

function systemEvent(type: number): Uint8Array {
  const run = new Uint8Array(4096);
  run[RUN.systemEvent.type] = type;
  return run;
}

test.each([
  ['shutdown', 'power-off'],
  ['reset', 'reset'],
] as const)('system event %s is a %s', (event, kind) => {
  expect(reportExit(EXIT.systemEvent, systemEvent(SYSTEM_EVENT[event]), NO_VCPU)).toEqual({ kind });
});

test('exit reasons have their names', () => {
  expect([exitName(2), exitName(17), exitName(39), exitName(1000)]).toEqual([
    'io',
    'internalError',
    'memoryFault',
    '?',
  ]);
});

import { expect, test } from 'bun:test';
import { EXIT, RUN, SYSTEM_EVENT } from '../../../../src/kvm/abi.ts';
import type { VcpuQueries } from '../../../../src/vmm/vcpu/queries.ts';
import { exitName, reportExit } from '../../../../src/vmm/vcpu/exit-report.ts';

/** A vCPU whose registers nobody reads. */
function systemEvent(type: number) {
  const run8 = new Uint8Array(4096);
  run8[RUN.systemEvent.type] = type;
  return { run8, kvm: {} as VcpuQueries, words: new Int32Array(), moments: new Float64Array() };
}

test.each([
  ['shutdown', 'power-off'],
  ['reset', 'reset'],
] as const)('system event %s is a %s', (event, kind) => {
  expect(reportExit(EXIT.systemEvent, systemEvent(SYSTEM_EVENT[event]))).toEqual({ kind });
});

test('exit reasons have their names', () => {
  expect([exitName(2), exitName(17), exitName(39), exitName(1000)]).toEqual([
    'io',
    'internalError',
    'memoryFault',
    '?',
  ]);
});

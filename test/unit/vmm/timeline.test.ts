/** What `--timeline` shows of moments that vCPU threads noted. */
import { expect, test } from 'bun:test';
import { createSharedState, VCPU_MOMENT } from '../../../src/vmm/bus/shared-state.ts';
import { Timeline } from '../../../src/vmm/timeline.ts';

test.each([
  [0, ['process start', 'first guest instruction', 'vCPU 1 waits for SIPI']],
  [1, ['process start', 'vCPU 0 waits for SIPI', 'first guest instruction']],
])('the BSP, vCPU %d, executes the first instruction; APs wait', (bootCpu, phases) => {
  const shared = createSharedState(2);
  for (const index of [0, 1])
    shared.vcpuMoments(index)[VCPU_MOMENT.entered] = performance.timeOrigin + 10 * (index + 1);

  const rows = new Timeline().rows(shared, bootCpu);

  expect(rows.map(({ phase }) => phase)).toEqual(phases);
  expect(rows.map(({ atMs }) => Math.round(atMs))).toEqual([0, 10, 20]);
});

/**
 * The embedded SMP kernel, saved and restored in the middle of its phases: its report, which compares primes,
 * counts IPIs and looks for a TSC that goes backwards, must stay right. `VOLT_TEST_SAVES=N` saves N times.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { parseConfig } from '../../src/api/index.ts';
import { kvmOpens } from '../cli/volt-process.ts';
import { seededRandom } from '../unit/support/random.ts';
import { runInPieces } from './saved-machine.ts';

setDefaultTimeout(3_600_000);

const SAVES = Number(process.env['VOLT_TEST_SAVES'] ?? 4);

describe.skipIf(!kvmOpens)('the SMP kernel saved at random moments (needs /dev/kvm)', () => {
  test.each([
    [1, '', 60, SAVES],
    [2, '', 60, SAVES],
    [4, '', 80, SAVES],
    [64, 'quick', 600, Math.ceil(SAVES / 4)],
  ])('on %d vCPUs goes on as if nothing had happened', async (cpus, words, longestMs, wanted) => {
    const input = {
      'boot-source': { boot_args: `json ${words}` },
      'machine-config': { vcpu_count: cpus, mem_size_mib: 64 },
    };
    const random = seededRandom(cpus);
    let saves = 0;

    while (saves < wanted) {
      const run = await runInPieces(
        parseConfig(input).config,
        () => random.int(0, longestMs),
        wanted - saves,
      );

      const report = JSON.parse(run.output);
      expect(report).toMatchObject({ verdict: 'pass', failures: [], complaints: [], agree: true });
      expect(report.cpus).toMatchObject({ found: cpus, online: cpus });
      expect(report.job.countedByAll).toBe(report.job.expected);
      expect(run.end).toMatchObject({ kind: 'guest-exit', exitCode: 0 });
      saves += run.saves;
    }
  });
});

/** A short run of the fuzz targets whose inputs are guests. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { fuzz } from '../../scripts/fuzz.ts';
import { findTarget } from '../../scripts/fuzz/targets.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';

/** For hangs only. */
setDefaultTimeout(200_000);

const RUNS = 40;

test.skipIf(!kvmOpens).each(['guest', 'process'])(
  'random code ends in a defined way or can be stopped, every time: %s (needs /dev/kvm)',
  async (name) => {
    using folder = new TemporaryFolder();
    const said: string[] = [];
    const options = {
      seconds: 600,
      runs: RUNS,
      seed: 7,
      findings: folder.at('findings'),
      corpus: folder.at('corpus'),
    };

    const [result] = await fuzz([findTarget(name)], 1, { ...options, say: (line) => said.push(line) });

    expect([result!.findings, said.filter((line) => line.includes('.bin'))]).toEqual([0, []]);
    expect(result!.runs).toBe(RUNS);
    // On a busy host all of them may be stopped before they have come to an end of their own.
    expect(result!.kinds).toBeGreaterThan(0);
  },
);

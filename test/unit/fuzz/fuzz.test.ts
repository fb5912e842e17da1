/** The fuzzer itself, and a short run of every target that needs no KVM. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fuzz, type FuzzResult } from '../../../scripts/fuzz.ts';
import { findTarget, TARGETS } from '../../../scripts/fuzz/targets.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';
import { TARGETS as BROKEN } from './broken-targets.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(180_000);

const MODULE = resolve(import.meta.dir, 'broken-targets.ts');
const NEED_KVM = ['guest', 'process'];

interface Findings {
  readonly result: FuzzResult;
  /** The inputs as text, and what is said of each. */
  readonly inputs: readonly string[];
  readonly words: readonly string[];
  readonly said: string;
}

async function fuzzBroken(folder: TemporaryFolder, name: string, runs: number): Promise<Findings> {
  const findings = folder.at('findings');
  const said: string[] = [];
  const options = {
    seconds: 60,
    runs,
    seed: 1,
    findings,
    corpus: folder.at('corpus'),
    module: MODULE,
    say: (line: string) => said.push(line),
  };
  const [result] = await fuzz([findTarget(name, BROKEN)], 1, options);
  const files = existsSync(findings) ? readdirSync(findings).sort() : [];
  const read = (end: string) =>
    files.filter((file) => file.endsWith(end)).map((file) => readFileSync(join(findings, file), 'latin1'));
  return { result: result!, inputs: read('.bin'), words: read('.txt'), said: said.join('\n') };
}

describe('a defect is found, and written down with its input', () => {
  test('that throws, although it takes three right bytes to come to it', async () => {
    using folder = new TemporaryFolder();

    const { result, inputs, words } = await fuzzBroken(folder, 'throws', 200_000);

    expect(result.findings).toBe(1);
    expect(inputs).toHaveLength(1);
    expect(inputs[0]).toStartWith('CIQ');
    expect(words[0]).toMatch(
      /^Error: found the word\n[^]*\nAgain: npm run fuzz -- --target throws --input .*\.bin\n$/,
    );
  });

  test('that lies behind branches, of which the coverage alone tells', async () => {
    using folder = new TemporaryFolder();

    const { result, inputs } = await fuzzBroken(folder, 'hidden', 400_000);

    expect(result.findings).toBe(1);
    expect(inputs[0]).toStartWith('QRST');
    expect(readdirSync(folder.at('corpus/hidden')).length).toBeGreaterThanOrEqual(3);
  });

  test('that hangs', async () => {
    using folder = new TemporaryFolder();

    const { result, inputs, words } = await fuzzBroken(folder, 'hangs', 1000);

    expect(result.findings).toBe(1);
    expect(inputs[0]![0]).not.toBe('A');
    expect(words[0]).toStartWith('takes longer than 1500 ms');
  });

  test('that crashes the process', async () => {
    using folder = new TemporaryFolder();

    const { result, inputs, words } = await fuzzBroken(folder, 'crashes', 1000);

    expect(result.findings).toBe(1);
    expect(inputs[0]![0]).not.toBe('A');
    expect(words[0]).toStartWith('ended the process: SIGSEGV');
  });

  test('and nothing is written where there is none', async () => {
    using folder = new TemporaryFolder();

    const { result, inputs, said } = await fuzzBroken(folder, 'sound', 1000);

    expect(result).toMatchObject({ findings: 0, kinds: 2, runs: 1000 });
    expect(inputs).toEqual([]);
    expect(said).toMatch(/^sound +\d+ inputs +\d+ s +\d+ a second +2 ways +\d+ covered +0 findings  done$/);
  });
});

const CI_RUNS = 1500;

test('every target that needs no KVM takes a short run without a finding', async () => {
  using folder = new TemporaryFolder();
  const said: string[] = [];
  const targets = TARGETS.filter(({ name }) => !NEED_KVM.includes(name));
  const options = {
    seconds: 600,
    runs: CI_RUNS,
    seed: 7,
    findings: folder.at('findings'),
    corpus: folder.at('corpus'),
    unguided: true,
  };

  const results = await fuzz(targets, 2, { ...options, say: (line) => said.push(line) });

  expect(results.filter(({ findings }) => findings > 0).map(() => said)).toEqual([]);
  expect(results.map(({ target }) => target).sort()).toEqual(targets.map(({ name }) => name).sort());
  expect(results.map(({ runs }) => runs)).toEqual(targets.map(() => CI_RUNS));
});

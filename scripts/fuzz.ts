/**
 * Fuzzing in one command: everything that takes bytes from outside, for a chosen time. Inputs that show a defect go to
 * a folder, each with a command that runs it again. docs/fuzzing.md tells what the targets are.
 *
 * Usage: npm run fuzz -- [--seconds N] [--runs N] [--target NAME]... [--seed N] [--jobs N] [--findings FOLDER]
 *                     [--corpus FOLDER]
 *        npm run fuzz -- --target NAME --input FILE
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { reproduceCommand, writeFinding } from './fuzz/findings.ts';
import { Progress } from './fuzz/progress.ts';
import { DEFAULT_HANG_MS, FOUND_SOMETHING, type FuzzTarget } from './fuzz/target.ts';
import { findTarget, TARGETS } from './fuzz/targets.ts';

const ALL_TARGETS = resolve(import.meta.dir, 'fuzz/targets.ts');
const LOOK_MS = 200;
const TELL_MS = 5000;

export interface FuzzOptions {
  /** For all targets together. */
  readonly seconds: number;
  /** For each target; 0: as many as the time allows. */
  readonly runs: number;
  readonly seed: number;
  readonly findings: string;
  /** Where inputs that came to something new are kept, a folder for each target. */
  readonly corpus: string;
  /** Without coverage as a guide, which takes its time at first. Default: with it. */
  readonly unguided?: boolean;
  /** Where the targets are; by default all of Volt's. */
  readonly module?: string;
  readonly say: (line: string) => void;
}

export interface FuzzResult {
  readonly target: string;
  readonly runs: number;
  readonly seconds: number;
  readonly kinds: number;
  /** Characters of the source that ran. */
  readonly covered: number;
  readonly findings: number;
}

/** Fuzzes one target in a process of its own, and takes note when that crashes or hangs. */
export async function fuzzTarget(
  target: FuzzTarget,
  seconds: number,
  options: FuzzOptions,
): Promise<FuzzResult> {
  const { name, hangMs = DEFAULT_HANG_MS } = target;
  const folder = mkdtempSync(join(tmpdir(), 'volt-fuzz-'));
  try {
    const file = join(folder, 'progress');
    const progress = new Progress(file);
    const script = resolve(import.meta.dir, 'fuzz/child.ts');
    const words = [options.module ?? ALL_TARGETS, name, seconds, options.runs, options.seed].map(String);
    await using child = Bun.spawn(
      [
        process.execPath,
        script,
        ...words,
        file,
        options.findings,
        options.corpus,
        options.unguided ? 'unguided' : 'guided',
      ],
      {
        stdin: 'ignore',
        stdout: 'inherit',
        stderr: 'inherit',
      },
    );
    const started = performance.now();
    let [told, moved, last] = [started, started, 0];
    let hung = false;
    while (child.exitCode === null && child.signalCode === null) {
      await Promise.race([child.exited, Bun.sleep(LOOK_MS)]);
      const now = performance.now();
      if (progress.beats !== last) [last, moved] = [progress.beats, now];
      if (now - told >= TELL_MS) {
        options.say(rowOf({ target: name, ...countsOf(progress), seconds: (now - started) / 1000 }));
        told = now;
      }
      if (now - moved > hangMs) {
        hung = true;
        child.kill('SIGKILL');
        await child.exited;
      }
    }
    const elapsed = (performance.now() - started) / 1000;
    const counts = countsOf(progress);
    const ended = child.exitCode === 0 || child.exitCode === FOUND_SOMETHING;
    const died = hung || !ended;
    if (died) {
      const what = hung
        ? `takes longer than ${hangMs} ms`
        : `ended the process: ${child.signalCode ?? child.exitCode}`;
      const path = writeFinding(options.findings, name, progress.input ?? new Uint8Array(), what);
      options.say(`${name}: an input ${what}\n  ${path}`);
    }
    return { target: name, ...counts, findings: counts.findings + (died ? 1 : 0), seconds: elapsed };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function countsOf({ runs, kinds, covered, findings }: Progress) {
  return { runs, kinds, covered, findings };
}

function rowOf({ target, runs, seconds, kinds, covered, findings }: FuzzResult): string {
  const rate = Math.round(runs / Math.max(seconds, 0.001));
  const columns = [
    `${runs} inputs`,
    `${seconds.toFixed(0)} s`,
    `${rate} a second`,
    `${kinds} ways`,
    `${covered} covered`,
  ];
  return `${target.padEnd(13)}${columns.map((text) => text.padStart(18)).join('')}${`${findings} findings`.padStart(15)}`;
}

/** Fuzzes `targets`, `jobs` at a time; returns what came of each. */
export async function fuzz(
  targets: readonly FuzzTarget[],
  jobs: number,
  options: FuzzOptions,
): Promise<FuzzResult[]> {
  const share = (options.seconds * jobs) / targets.length;
  const waiting = [...targets];
  const results: FuzzResult[] = [];
  const work = async () => {
    for (let target = waiting.shift(); target; target = waiting.shift()) {
      const result = await fuzzTarget(target, share, options);
      options.say(`${rowOf(result)}  done`);
      results.push(result);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return results;
}

const HELP = `Usage: npm run fuzz -- [OPTION...]

  --target NAME     fuzz only this; may be given again. Names: ${TARGETS.map(({ name }) => name).join(', ')}
  --seconds N       in all (default 60)
  --runs N          inputs for each target, instead of a time
  --seed N          the same again (default: by the clock)
  --jobs N          processes at once (default 1)
  --findings DIR    where inputs of defects go (default build/fuzz)
  --corpus DIR      where inputs that came to new code are kept (default build/fuzz/corpus)
  --input FILE      with --target: run this input alone
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      runs: { type: 'string', default: '0' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
      jobs: { type: 'string', default: '1' },
      target: { type: 'string', multiple: true, default: [] },
      findings: { type: 'string', default: 'build/fuzz' },
      corpus: { type: 'string', default: 'build/fuzz/corpus' },
      input: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const targets = values.target.length > 0 ? values.target.map((name) => findTarget(name)) : TARGETS;
  if (values.input !== undefined) return runAgain(targets, values.input);
  const [seconds, runs, seed, jobs] = [values.seconds, values.runs, values.seed, values.jobs].map(Number);
  const findings = resolve(values.findings);
  console.log(`${targets.length} targets, ${seconds} s, seed ${seed}; findings go to ${findings}`);
  const options = {
    seconds: seconds!,
    runs: runs!,
    seed: seed!,
    findings,
    corpus: resolve(values.corpus),
    say: (line: string) => console.log(line),
  };
  const results = await fuzz(targets, jobs!, options);
  const total = (key: 'runs' | 'findings') => results.reduce((sum, result) => sum + result[key], 0);
  console.log(`${total('runs')} inputs, ${total('findings')} findings`);
  return total('findings') > 0 ? 1 : 0;
}

async function runAgain(targets: readonly FuzzTarget[], path: string): Promise<number> {
  const input = new Uint8Array(readFileSync(path));
  for (const target of targets) {
    console.log(reproduceCommand(target.name, path));
    try {
      console.log(await target.run(input));
    } catch (error) {
      console.error(error);
      return 1;
    }
  }
  return 0;
}

if (import.meta.main) process.exit(await main());

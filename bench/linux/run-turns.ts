/**
 * Runs guests in turns where Linux guests can run, which on some machines is inside a nested host: so the times are
 * taken there, beside the guests. Reads a `TurnsPlan` from the file that its argument names, prints a `TurnsResult`.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { measureInTurns } from '../measurement.ts';

export interface TurnsPlan {
  readonly rounds: number;
  readonly subjects: readonly GuestCommand[];
  /** The guest is there when this is on its console; then it is killed. */
  readonly until: string;
}

export interface GuestCommand {
  readonly name: string;
  /** Finds a folder of its own, removed afterwards, in BENCH_FOLDER. */
  readonly argv: readonly string[];
}

export interface GuestRun {
  /** From before the spawn until the console showed what was waited for. */
  readonly ms: number;
  /** The console up to there. */
  readonly text: string;
}

export interface TurnsResult {
  readonly bySubject: readonly (readonly [name: string, runs: readonly GuestRun[]])[];
  readonly skipped: readonly string[];
}

/** For hangs only. */
const HANG_MS = 180_000;
/** An emulated host loses a guest's interrupt now and then, whatever VMM runs there. */
const TRIES = 3;

async function runUntil(argv: readonly string[], until: string): Promise<GuestRun> {
  const folder = mkdtempSync(join(tmpdir(), 'volt-bench-guest-'));
  const start = performance.now();
  const child = Bun.spawn([...argv], {
    env: { ...process.env, BENCH_FOLDER: folder },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    // A session of its own, so that what it started goes with it.
    detached: true,
  });
  const end = () => {
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  };
  const hang = setTimeout(end, HANG_MS);
  const errors = new Response(child.stderr).text();
  const decoder = new TextDecoder('latin1');
  let text = '';
  let ms: number | undefined;
  for await (const bytes of child.stdout) {
    text += decoder.decode(bytes);
    if (!text.includes(until)) continue;
    ms = performance.now() - start;
    break;
  }
  clearTimeout(hang);
  end();
  await child.exited;
  rmSync(folder, { recursive: true });
  if (ms !== undefined) return { ms, text };
  const said = [text, await errors].map((words) => words.trim().split('\n').at(-1)).filter(Boolean);
  throw new Error(`it never printed ${until}; last was "${said.join('", "')}"`);
}

async function withRetries({ name, argv }: GuestCommand, until: string): Promise<GuestRun> {
  for (let left = TRIES - 1; ; left--) {
    try {
      return await runUntil(argv, until);
    } catch (error) {
      if (left === 0) throw error;
      process.stderr.write(`${name}: ${(error as Error).message}; once more\n`);
    }
  }
}

const { rounds, subjects, until } = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as TurnsPlan;
try {
  const { bySubject, skipped } = await measureInTurns(
    subjects.map((subject) => ({ name: subject.name, run: () => withRetries(subject, until) })),
    rounds,
  );
  // All of it: an exit does not wait for a pipe.
  await Bun.write(Bun.stdout, JSON.stringify({ bySubject: [...bySubject], skipped } satisfies TurnsResult));
  process.exit(0);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
}

/**
 * Fuzzes one target, for a time or a number of inputs. A process of its own, because what it tries may crash or hang it.
 *
 * Usage: bun scripts/fuzz/child.ts TARGETS-MODULE TARGET SECONDS RUNS SEED PROGRESS-FILE FINDINGS-FOLDER
 */
import { seededRandom } from '../../test/unit/support/random.ts';
import { placeOf, writeFinding } from './findings.ts';
import { Progress } from './progress.ts';
import type { FuzzTarget } from './target.ts';
import { findTarget } from './targets.ts';
import { varyBytes } from './vary.ts';

/** More inputs than this are not kept; a new one then takes the place of an old one. */
const MAX_KEPT = 4096;
const MAX_FINDINGS = 20;
/** How often the clock is read. */
const RUNS_PER_LOOK = 16;

const [module = '', name = '', seconds = '1', runs = '0', seed = '1', progressFile = '', folder = ''] =
  process.argv.slice(2);
const { TARGETS } = (await import(module)) as { TARGETS: readonly FuzzTarget[] };
const { seeds, words = [], vary, run } = findTarget(name, TARGETS);
const random = seededRandom(Number(seed));
const progress = new Progress(progressFile);
// Copies, and no Buffers, whose slices share their memory.
const kept = seeds().map((bytes) => new Uint8Array(bytes));
const kinds = new Set<string>();
const places = new Set<string>();
const until = performance.now() + Number(seconds) * 1000;
const limit = Number(runs) || Infinity;

for (const input of [...kept]) await tryInput(input, false);
for (let i = kept.length; i < limit && places.size < MAX_FINDINGS; i++) {
  if (i % RUNS_PER_LOOK === 0 && performance.now() >= until) break;
  const [base, other] = [pick(), pick()];
  let input = vary && random.int(0, 3) > 0 ? vary(random, base) : varyBytes(random, base, other, words);
  while (random.int(0, 3) === 0) input = varyBytes(random, input, other, words);
  const done = tryInput(input, true);
  // Most targets have no need to wait, which takes longer than they do.
  if (done) await done;
}
process.exit(places.size > 0 ? 1 : 0);

function pick(): Uint8Array {
  // Half of the time one of the newest, whose neighbours are least known.
  const from = random.int(0, 1) === 0 ? Math.max(0, kept.length - 64) : 0;
  return kept[random.int(from, kept.length - 1)]!;
}

function tryInput(input: Uint8Array, keep: boolean): Promise<void> | undefined {
  progress.begin(input);
  try {
    const kind = run(input);
    if (typeof kind === 'string') {
      noteKind(kind, input, keep);
      return undefined;
    }
    return kind.then(
      (late) => noteKind(late, input, keep),
      (error: unknown) => noteFinding(error, input),
    );
  } catch (error) {
    noteFinding(error, input);
    return undefined;
  }
}

function noteKind(kind: string, input: Uint8Array, keep: boolean): void {
  progress.end();
  if (kinds.has(kind)) return;
  kinds.add(kind);
  progress.note(kinds.size, places.size);
  if (!keep) return;
  if (kept.length < MAX_KEPT) kept.push(new Uint8Array(input));
  else kept[random.int(0, kept.length - 1)] = new Uint8Array(input);
}

function noteFinding(error: unknown, input: Uint8Array): void {
  progress.end();
  const place = placeOf(error);
  if (places.has(place)) return;
  places.add(place);
  progress.note(kinds.size, places.size);
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const path = writeFinding(folder, name, input, what);
  console.error(`${name}: ${what.split('\n')[0]}\n  ${path}`);
}

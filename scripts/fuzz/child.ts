/**
 * Fuzzes one target, for a time or a number of inputs. A process of its own, because what it tries may crash or hang it.
 *
 * Usage: npx bun scripts/fuzz/child.ts TARGETS-MODULE TARGET SECONDS RUNS SEED PROGRESS-FILE FINDINGS-FOLDER CORPUS-FOLDER guided|unguided
 */
import { join } from 'node:path';
import { seededRandom } from '../../test/unit/support/random.ts';
import { keepInput, readInputs, seedFolder } from './corpus.ts';
import { Coverage } from './coverage.ts';
import { placeOf, writeFinding } from './findings.ts';
import { Progress } from './progress.ts';
import { FOUND_SOMETHING, MAX_INPUT_BYTES, targetNamed, type FuzzTarget } from './target.ts';
import { varyBytes } from './vary.ts';

/** More inputs that took a new way are not kept; a new one then takes the place of an old one. */
const MAX_KEPT = 4096;
const MAX_FINDINGS = 20;
/** How often the clock is read. */
const RUNS_PER_LOOK = 16;
/** How many inputs are run before it is asked what they covered. */
const RUNS_PER_COVERAGE = 512;

const [
  module = '',
  name = '',
  seconds = '1',
  runs = '0',
  seed = '1',
  progressFile = '',
  folder = '',
  corpus = '',
  guide = '',
] = process.argv.slice(2);
// What is loaded before the profiler has started is not seen by it, so targets come later than it does.
const running = await Coverage.start();
const { TARGETS } = (await import(module)) as { TARGETS: readonly FuzzTarget[] };
const { seeds, words = [], vary, run, source } = targetNamed(name, TARGETS);
const coverage = source === 'none' || guide === 'unguided' ? await running.stop() : running.counting(source);
const random = seededRandom(Number(seed));
const progress = new Progress(progressFile);
const ownCorpus = join(corpus, name);
// Copies, and no Buffers, whose slices share their memory.
const kept: Uint8Array[] = seeds().map((bytes) => new Uint8Array(bytes));
/** Inputs that covered what none before did. */
const covering = [...readInputs(seedFolder(name)), ...readInputs(ownCorpus)];
const kinds = new Set<string>();
const places = new Set<string>();
const until = performance.now() + Number(seconds) * 1000;
const limit = Number(runs) || Infinity;
let done = 0;

await coverage?.begin();
for (const input of [...kept, ...covering]) await tryInput(input);
await coverage?.take(true);
noteCounts();
while (done < limit && places.size < MAX_FINDINGS && performance.now() < until) {
  const batch: Uint8Array[] = [];
  while (batch.length < RUNS_PER_COVERAGE && done < limit) {
    if (batch.length % RUNS_PER_LOOK === 0 && performance.now() >= until) break;
    const input = makeInput();
    batch.push(input);
    const late = tryInput(input);
    // Most targets have no need to wait, which takes longer than they do.
    if (late) await late;
  }
  if (coverage && (await coverage.take(false)) > 0) await findCovering(batch);
}
process.exit(places.size > 0 ? FOUND_SOMETHING : 0);

function makeInput(): Uint8Array {
  const [base, other] = [pick(), pick()];
  let input = vary && random.int(0, 3) > 0 ? vary(random, base) : varyBytes(random, base, other, words);
  while (random.int(0, 3) === 0) input = varyBytes(random, input, other, words);
  return input.length > MAX_INPUT_BYTES ? input.slice(0, MAX_INPUT_BYTES) : input;
}

function pick(): Uint8Array {
  const among = covering.length > 0 && random.int(0, 1) === 0 ? covering : kept;
  // Half of the time one of the newest, whose neighbours are least known.
  const from = random.int(0, 1) === 0 ? Math.max(0, among.length - 64) : 0;
  return among[random.int(from, among.length - 1)]!;
}

/** Runs inputs that came to something new once more, in halves, until it is known which of them did. */
async function findCovering(inputs: readonly Uint8Array[]): Promise<void> {
  const alone = inputs.length === 1;
  for (const input of inputs) await runAgain(input);
  if ((await coverage!.take(alone)) === 0) return;
  if (alone) {
    covering.push(inputs[0]!);
    keepInput(ownCorpus, inputs[0]!);
    noteCounts();
    return;
  }
  const middle = inputs.length >> 1;
  await findCovering(inputs.slice(0, middle));
  await findCovering(inputs.slice(middle));
}

async function runAgain(input: Uint8Array): Promise<void> {
  progress.begin(input);
  try {
    await run(input);
  } catch {
    // It was found when it was run first.
  }
  progress.endAgain();
}

function tryInput(input: Uint8Array): Promise<void> | undefined {
  done++;
  progress.begin(input);
  try {
    const kind = run(input);
    if (typeof kind === 'string') {
      noteKind(kind, input);
      return undefined;
    }
    return kind.then(
      (late) => noteKind(late, input),
      (error: unknown) => noteFinding(error, input),
    );
  } catch (error) {
    noteFinding(error, input);
    return undefined;
  }
}

function noteKind(kind: string, input: Uint8Array): void {
  progress.end();
  if (kinds.has(kind)) return;
  kinds.add(kind);
  noteCounts();
  if (kept.includes(input)) return;
  if (kept.length < MAX_KEPT) kept.push(input);
  else kept[random.int(0, kept.length - 1)] = input;
}

function noteFinding(error: unknown, input: Uint8Array): void {
  progress.end();
  const place = placeOf(error);
  if (places.has(place)) return;
  places.add(place);
  noteCounts();
  const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const path = writeFinding(folder, name, input, what);
  console.error(`${name}: ${what.split('\n')[0]}\n  ${path}`);
}

function noteCounts(): void {
  progress.note(kinds.size, places.size, coverage?.covered ?? 0);
}

/**
 * Makes the seed corpus of a target anew: of all inputs that runs have kept, the few and short ones that cover as much.
 *
 * Usage: npx bun scripts/fuzz/distil.ts TARGET [CORPUS-FOLDER]
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { keepInput, readInputs, seedFolder } from './corpus.ts';
import { Coverage } from './coverage.ts';

/** What covers less than this much that no shorter input does is not worth its place in the repository. */
const WORTH_CHARACTERS = 10;
const MOST_BYTES = 4096;

const [name = '', corpus = 'build/fuzz/corpus'] = process.argv.slice(2);
const coverage = await Coverage.start();
const { findTarget } = await import('./targets.ts');
const { run, seeds, source } = findTarget(name);
if (source === 'none')
  throw new Error(`Cannot distil ${name}: its coverage is not known (expected another target)`);
await coverage.counting(source).begin();

// What is there without a corpus.
for (const input of seeds()) await run(input);
await coverage.take(true);
const found = [...readInputs(seedFolder(name)), ...readInputs(join(resolve(corpus), name))]
  .filter(({ length }) => length <= MOST_BYTES)
  .sort((a, b) => a.length - b.length);
const kept: Uint8Array[] = [];
for (const input of found) {
  try {
    await run(input);
  } catch (error) {
    console.error(`${name}: an input of the corpus shows a defect: ${error}`);
    continue;
  }
  if ((await coverage.take(false)) < WORTH_CHARACTERS) continue;
  // Asked without remembering, the engine has begun anew.
  await run(input);
  await coverage.take(true);
  kept.push(input);
}
rmSync(seedFolder(name), { recursive: true, force: true });
if (kept.length > 0) mkdirSync(seedFolder(name), { recursive: true });
for (const input of kept) keepInput(seedFolder(name), input);
const bytes = kept.reduce((sum, { length }) => sum + length, 0);
console.log(`${name}: ${kept.length} of ${found.length} inputs, ${bytes} bytes, ${coverage.covered} covered`);

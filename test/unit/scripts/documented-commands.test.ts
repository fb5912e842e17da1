/** Commands in the documents work as typed: `npm ci` leaves no `bun` on the PATH, but `npx bun` and `npm run` work. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, setDefaultTimeout, test } from 'bun:test';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const ROOT = resolve(import.meta.dir, '../../..');
const DOCUMENTS = findFiles('*.md', '{docs,src,kernels,examples,bench,scripts}/**/*.md');
const PROGRAMS = findFiles('{examples,scripts,bench}/**/*.ts');
const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };

function findFiles(...patterns: string[]): string[] {
  return patterns.flatMap((pattern) => [...new Bun.Glob(pattern).scanSync(ROOT)]);
}

function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** Lines of fenced code blocks, without prompts, variables and sudo before the command. */
function commandLines(text: string): string[] {
  return [...text.matchAll(/^ *```[^\n]*\n([^]*?)^ *```/gm)]
    .flatMap((block) => block[1]!.split('\n'))
    .map((line) => line.trim().replace(/^(?:\$ |sudo |[A-Z_]+=\S* )*/, ''));
}

test('no code block calls bun by its name alone', () => {
  const found = DOCUMENTS.flatMap((path) =>
    commandLines(readText(path))
      .filter((line) => line.startsWith('bun '))
      .map((line) => `${path}: ${line}`),
  );

  expect(DOCUMENTS.length).toBeGreaterThan(10);
  expect(found).toEqual([]);
});

test('no sentence and no usage line calls bun with a script or a file', () => {
  const bare = /(?:`|Usage: |Again: |\()(bun (?:run |install|\S+\.ts)[^`\n]*)/g;
  const found = [...DOCUMENTS, ...PROGRAMS].flatMap((path) =>
    [...readText(path).matchAll(bare)].map((match) => `${path}: ${match[1]}`),
  );

  expect(found).toEqual([]);
});

test('scripts named after npm run exist, and their options follow --', () => {
  const runs = DOCUMENTS.flatMap((path) => [
    ...readText(path).matchAll(/npm run ([\w:-]+)((?: [^\n#`]*)?)/g),
  ]);
  const wrong = runs.filter(([, name, rest]) => !(name! in scripts) || /^ (?!-- ).*--?\w/.test(rest!));

  expect(runs.length).toBeGreaterThan(5);
  expect(wrong.map(([command]) => command)).toEqual([]);
});

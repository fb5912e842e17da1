/** A run shows of a skipped test nothing but its name, so the name says why. */
import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

const TESTS = resolve(import.meta.dir, '..');
const OWN = ['support/needs.ts', 'support/needs.test.ts'];

/** The position behind the parenthesis that closes the one at `at`; strings are taken to be balanced. */
function endOfCall(text: string, at: number): number {
  for (let depth = 0, i = at; i < text.length; i++) {
    if (text[i] === '(') depth++;
    if (text[i] === ')' && --depth === 0) return i + 1;
  }
  return text.length;
}

/**
 * What stands between a `skipIf(…)`, with its `.each(…)`, and the function of the test. Without those whose
 * condition is called LACKS_… or lacks: that is the reason itself, and part of the name of the test or its group.
 */
function namesOfSkipped(text: string): string[] {
  return [...text.matchAll(/\.skipIf\((?!lacks\b|LACKS_)/g)].map(({ index }) => {
    let at = endOfCall(text, text.indexOf('(', index));
    if (text.startsWith('.each(', at)) at = endOfCall(text, at + '.each'.length);
    return text.slice(at, text.indexOf('=>', at)).trim();
  });
}

describe('a test that may be skipped', () => {
  test('says in its name what it needs, wherever it stands', () => {
    const files = [...new Bun.Glob('**/*.ts').scanSync(TESTS)].filter((file) => !OWN.includes(file));

    const nameless = files.flatMap((file) =>
      namesOfSkipped(readFileSync(resolve(TESTS, file), 'utf8'))
        .filter((name) => !/^\([^]*\(needs? /.test(name))
        .map((name) => `${file}: ${name}`),
    );

    expect(files.length).toBeGreaterThan(150);
    expect(nameless).toEqual([]);
  });

  test.each([
    ["test.skipIf(a)('x (needs b)', () => {", ["('x (needs b)', ()"]],
    ['test.skipIf(LACKS_B)(`x${LACKS_B}`, () => {', []],
    ['const t = test.skipIf(a(b));\nt(() => {', [';\nt(()']],
    ["test.skipIf(a).each([f(1)])('%s', (x) => {", ["('%s', (x)"]],
  ])('is found in %j', (text, names) => {
    expect(namesOfSkipped(text)).toEqual(names);
  });
});

import { describe, expect, test } from 'bun:test';
import { createLineBuffer, isBlank, takeLines, takeRest } from '../../../src/api/control/lines.ts';
import { seededRandom } from '../support/random.ts';

const bytes = (text: string) => Buffer.from(text, 'utf8');
const texts = (lines: readonly Uint8Array[]) => lines.map((line) => Buffer.from(line).toString('utf8'));

describe('lines of a stream', () => {
  test('one chunk may hold several lines and the beginning of another', () => {
    const buffer = createLineBuffer(100);
    expect(texts(takeLines(buffer, bytes('one\ntwo\n\nthr')))).toEqual(['one', 'two', '']);
    expect(texts(takeLines(buffer, bytes('ee\n')))).toEqual(['three']);
    expect(takeRest(buffer)).toBeUndefined();
  });

  test('the same lines come out whatever the pieces', () => {
    const random = seededRandom(4);
    const text = Array.from({ length: 200 }, () => 'ä€😀x'.repeat(random.int(0, 30))).join('\n');
    const whole = bytes(`${text}\n`);
    for (let round = 0; round < 50; round++) {
      const buffer = createLineBuffer(10_000);
      const lines: string[] = [];
      for (let from = 0; from < whole.length;) {
        const to = from + random.int(1, 40);
        lines.push(...texts(takeLines(buffer, whole.subarray(from, to))));
        from = to;
      }
      expect(lines.join('\n')).toBe(text);
    }
  });

  test('a line may have exactly the limit, and one byte more is too long for good', () => {
    const buffer = createLineBuffer(3000);
    expect(takeLines(buffer, bytes(`${'x'.repeat(3000)}\n`))).toHaveLength(1);
    expect(buffer.overlong).toBe(false);
    takeLines(buffer, bytes('x'.repeat(2999)));
    expect(texts(takeLines(buffer, bytes('xx\nmore\n')))).toEqual([]);
    expect(buffer.overlong).toBe(true);
    expect(texts(takeLines(buffer, bytes('more\n')))).toEqual([]);
    expect(takeRest(buffer)).toBeUndefined();
  });

  test('lines before one that is too long still count', () => {
    const buffer = createLineBuffer(5);
    expect(texts(takeLines(buffer, bytes('a\nb\ntoo long\nc\n')))).toEqual(['a', 'b']);
  });

  test('what has no newline is the rest', () => {
    const buffer = createLineBuffer(100);
    takeLines(buffer, bytes('a\nrest'));
    expect(texts([takeRest(buffer)!])).toEqual(['rest']);
    expect(takeRest(buffer)).toBeUndefined();
  });

  test('blank lines are those with nothing in them but white space', () => {
    expect(['', '\r', ' \t\r'].map((text) => isBlank(bytes(text)))).toEqual([true, true, true]);
    expect(isBlank(bytes(' x'))).toBe(false);
  });
});

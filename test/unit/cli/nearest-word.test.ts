import { expect, test } from 'bun:test';
import { nearestWord } from '../../../src/cli/nearest-word.ts';

const WORDS = ['run', 'check', 'inspect', 'selftest', 'doctor', 'ps', 'ctl'];

test.each([
  ['doctr', 'doctor'],
  ['insepct', 'inspect'],
  ['chekc', 'check'],
  ['rn', 'run'],
  ['frob', undefined],
  ['', undefined],
])('%p is near %p', (typed, word) => {
  expect(nearestWord(typed, WORDS)).toBe(word);
});

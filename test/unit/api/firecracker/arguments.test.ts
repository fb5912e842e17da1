import { expect, test } from 'bun:test';
import {
  ArgumentFault,
  FIRECRACKER_ARGUMENTS,
  formatHelp,
  instanceIdProblem,
  parseArguments,
} from '../../../../src/api/firecracker/model/arguments.ts';

function debugOf(...words: readonly string[]): string {
  try {
    parseArguments(FIRECRACKER_ARGUMENTS, words);
  } catch (error) {
    if (error instanceof ArgumentFault) return error.debug;
    throw error;
  }
  return 'no fault';
}

test('a value is the next word, and the default without one', () => {
  const flags = parseArguments(FIRECRACKER_ARGUMENTS, ['--id', 'a', '--no-seccomp', '--', '--id', 'b']);

  expect([flags.value('id'), flags.value('api-sock'), flags.flag('no-seccomp'), flags.rest]).toEqual([
    'a',
    '/run/firecracker.socket',
    true,
    ['--id', 'b'],
  ]);
});

test.each([
  [['--bogus'], 'UnexpectedArgument("bogus")'],
  [['--id=x'], 'UnexpectedArgument("id=x")'],
  [['x'], 'UnexpectedArgument("x")'],
  [['--api-sock'], 'MissingValue("api-sock")'],
  [['--id', 'a', '--id', 'b'], 'DuplicateArgument("id")'],
  [['--no-api'], 'MissingArgument("config-file")'],
  [['--no-seccomp', '--seccomp-filter', 'x'], 'ForbiddenArgument("no-seccomp", "seccomp-filter")'],
])('%p is refused', (words, debug) => {
  expect(debugOf(...words)).toBe(debug);
});

test('--help hides all mistakes', () => {
  expect(parseArguments(FIRECRACKER_ARGUMENTS, ['--bogus', '-h']).only).toBe('help');
  expect(formatHelp(FIRECRACKER_ARGUMENTS)).toContain('--api-sock <api-sock>');
});

test.each([
  ['a-b', undefined],
  ['a_b', "InvalidChar('_', 1)"],
  ['', 'InvalidLen(0, 1, 64)'],
])('the id %p: %p', (id, problem) => {
  expect(instanceIdProblem(id)).toBe(problem);
});

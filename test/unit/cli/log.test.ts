import { expect, test } from 'bun:test';
import { oneLine } from '../../../src/cli/log.ts';

test('what a guest or a file says becomes one line that steers no terminal, by C0 and C1 codes alike', () => {
  expect(oneLine('a\r\n b\x1b[2J\x7f\u009b31m c\tä')).toBe('a b?[2J??31m c\tä');
});

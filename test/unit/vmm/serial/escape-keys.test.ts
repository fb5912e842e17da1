import { expect, test } from 'bun:test';
import { filterEscapeKeys } from '../../../../src/vmm/serial/escape-keys.ts';
import { seededRandom } from '../../support/random.ts';

const CTRL_A = '\x01';

function type(text: string, pending = false) {
  const { forward, actions, pending: waits } = filterEscapeKeys(Buffer.from(text, 'latin1'), pending);
  return { forward: Buffer.from(forward).toString('latin1'), actions, pending: waits };
}

test.each([
  ['plain text', 'ls -l\r', 'ls -l\r', []],
  ['Ctrl-A x', `${CTRL_A}x`, '', ['leave']],
  ['Ctrl-A X', `${CTRL_A}X`, '', ['leave']],
  ['Ctrl-A h', `${CTRL_A}h`, '', ['help']],
  ['Ctrl-A H', `${CTRL_A}H`, '', ['help']],
  ['Ctrl-A ?', `${CTRL_A}?`, '', ['help']],
  ['Ctrl-A s', `${CTRL_A}s`, '', ['show']],
  ['Ctrl-A Ctrl-A', `${CTRL_A}${CTRL_A}`, CTRL_A, []],
  ['Ctrl-A a', `${CTRL_A}a`, CTRL_A, []],
  ['Ctrl-A and a key that means nothing', `${CTRL_A}q`, `${CTRL_A}q`, []],
  ['keys around an action', `a${CTRL_A}hb${CTRL_A}xc`, 'abc', ['help', 'leave']],
  ['Ctrl-A Ctrl-A x, which is no action', `${CTRL_A}${CTRL_A}x`, `${CTRL_A}x`, []],
  ['nothing', '', '', []],
] as const)('%s', (_, text, forward, actions) => {
  expect(type(text)).toEqual({ forward, actions: [...actions], pending: false });
});

test('a Ctrl-A at the end waits for the next key', () => {
  expect(type(`ab${CTRL_A}`)).toEqual({ forward: 'ab', actions: [], pending: true });
  expect(type('x', true)).toEqual({ forward: '', actions: ['leave'], pending: false });
  expect(type('', true)).toEqual({ forward: '', actions: [], pending: true });
});

test('bytes above 127 and NUL go through', () => {
  expect(type('\x00\xc3\xa4\xff').forward).toBe('\x00\xc3\xa4\xff');
});

test('however input is cut into pieces, the same comes out', () => {
  const random = seededRandom(16);
  const keys = [0x01, 0x01, 0x78, 0x68, 0x61, 0x62] as const;
  for (let i = 0; i < 500; i++) {
    const input = Uint8Array.from({ length: 20 }, () => random.pick(keys));
    const cut = random.int(0, 20);
    const whole = filterEscapeKeys(input, false);
    const first = filterEscapeKeys(input.subarray(0, cut), false);
    const second = filterEscapeKeys(input.subarray(cut), first.pending);
    expect([...first.forward, ...second.forward]).toEqual([...whole.forward]);
    expect([...first.actions, ...second.actions]).toEqual([...whole.actions]);
    expect(second.pending).toBe(whole.pending);
  }
});

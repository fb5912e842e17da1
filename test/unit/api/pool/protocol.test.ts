/** What callers and a pool's processes send to each other is checked like any other input. */
import { describe, expect, test } from 'bun:test';
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  HEADER,
  MAX_REQUEST_BYTES,
  requestBytes,
  type PoolAnswer,
} from '../../../../src/api/pool/protocol.ts';

const json = (value: unknown) => Buffer.from(JSON.stringify(value));

describe('a request', () => {
  test('comes back as it was sent', () => {
    const request = {
      words: ['run', '--cmdline', 'a "b" ü\n'],
      env: { HOME: '/root', 'ODD name': '' },
      executable: '1:2',
    };

    const bytes = encodeRequest(request);
    const length = requestBytes(bytes.subarray(0, HEADER.size));

    expect(length).toBe(bytes.length - HEADER.size);
    expect(decodeRequest(bytes.subarray(HEADER.size))).toEqual(request);
  });

  test('has the header that docs give: magic, length, little-endian', () => {
    const bytes = encodeRequest({ words: [], env: {} });

    expect(Buffer.from(bytes).toString('latin1')).toBe('VPL1\x15\x00\x00\x00{"words":[],"env":{}}');
  });

  test.each([
    ['is too short', Buffer.from('VPL1\0\0\0')],
    ['has another magic', Buffer.from('VPL2\0\0\0\0')],
    [
      'announces too much',
      Buffer.concat([Buffer.from('VPL1'), Buffer.from(Uint32Array.of(MAX_REQUEST_BYTES + 1).buffer)]),
    ],
  ])('whose header %s is none', (_, header) => {
    expect(requestBytes(header)).toBeUndefined();
  });

  test('that is too long is not sent', () => {
    const request = { words: ['x'.repeat(MAX_REQUEST_BYTES)], env: {} };

    expect(() => encodeRequest(request)).toThrow(RangeError);
  });

  test.each([
    ['no JSON', Buffer.from('{')],
    ['no UTF-8', Buffer.from('{"words":["\xff"],"env":{}}', 'latin1')],
    ['a list', json([])],
    ['words that are no list', json({ words: 'run', env: {} })],
    ['a word that is no text', json({ words: [1], env: {} })],
    ['a word with a NUL', json({ words: ['a\0b'], env: {} })],
    ['too many words', json({ words: Array.from({ length: 70_000 }, () => ''), env: {} })],
    ['an executable that is no text', json({ words: [], env: {}, executable: 1 })],
    ['no environment', json({ words: [] })],
    ['an environment that is a list', json({ words: [], env: [] })],
    ['a variable that is no text', json({ words: [], env: { A: null } })],
    ['a variable without a name', json({ words: [], env: { '': 'x' } })],
    ['a name with an equals sign', json({ words: [], env: { 'A=B': 'x' } })],
    ['a value with a NUL', json({ words: [], env: { A: '\0' } })],
  ])('with %s is none', (_, body) => {
    expect(decodeRequest(body)).toBeUndefined();
  });
});

describe('an answer', () => {
  test.each<PoolAnswer>([
    { kind: 'ready', pid: 4711 },
    { kind: 'refused', why: 'its user is another one' },
    { kind: 'exit', code: 143 },
  ])('%j comes back as it was sent', (answer) => {
    const line = encodeAnswer(answer);

    expect(line.at(-1)).toBe(0x0a);
    expect(decodeAnswer(line.subarray(0, -1))).toEqual(answer);
  });

  test.each([
    [{}],
    [{ kind: 'ready', pid: 0 }],
    [{ kind: 'ready', pid: 1.5 }],
    [{ kind: 'ready', pid: 2 ** 31 }],
    [{ kind: 'exit', code: 256 }],
    [{ kind: 'exit', code: '0' }],
    [{ kind: 'refused' }],
    [{ kind: 'toString' }],
    [null],
  ])('%j is none', (value) => {
    expect(decodeAnswer(json(value))).toBeUndefined();
  });
});

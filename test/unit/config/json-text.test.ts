import { expect, test } from 'bun:test';
import { parseJsonText } from '../../../src/config/json-text.ts';
import { voltErrorOf } from '../support/errors.ts';

const parse = (text: string) => parseJsonText(Buffer.from(text));

test.each([
  '{}',
  ' [ ] ',
  '{"a": [1, -2.5e3, true, false, null, "x\\u00e9\\n\\"", {"b": {}}], "c": 0}',
  '"text"',
  '{"__proto__": 1, "constructor": {"toString": 2}}',
])('%s is read as JSON.parse reads it', (text) => {
  expect(parse(text)).toEqual(JSON.parse(text));
});

test.each([
  ['{"a": 1,\n "a": 2}', 'line 2, column 2: duplicate key "a"; remove one of the two'],
  ['{"a": {"b": 1, "b": 1}}', 'line 1, column 16: duplicate key "b"; remove one of the two'],
  ['{\n  "a": 1,\n}', 'line 3, column 1: expected a key in quotes, found "}"'],
  ['{"a" 1}', 'line 1, column 6: expected : after a key, found "1}"'],
  ['{"a": tru}', 'line 1, column 7: expected a value, found "tru}"'],
  ['[01]', 'line 1, column 2: expected a value, found "01]"'],
  ['[1 2]', 'line 1, column 4: expected , or ], found "2]"'],
  ['[1', 'line 1, column 3: expected , or ], found the end of the file'],
  ['{"a": "x', 'line 1, column 7: this string has no closing quote'],
  ['["a\nb"]', 'line 1, column 2: this string has a control character or an invalid escape sequence'],
  ['{} // no', 'line 1, column 4: expected the end of the file, found "// no"'],
  ['', 'line 1, column 1: expected a value, found the end of the file'],
  ['['.repeat(100_000), 'line 1, column 130: nested more than 128 deep'],
])('%p is refused where it is wrong', (text, message) => {
  expect(voltErrorOf(() => parse(text)).message).toBe(message);
});

test('a byte order mark and invalid UTF-8 are named', () => {
  const bom = voltErrorOf(() => parseJsonText(Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b, 0x7d)));
  const latin1 = voltErrorOf(() => parseJsonText(Buffer.from('{\n"a": "caf\xe9"}', 'latin1')));

  expect(bom.message).toBe(
    'it starts with a byte order mark, which JSON does not allow; save it as UTF-8 without one',
  );
  expect(latin1.message).toBe('line 2: byte 11 of the file is not valid UTF-8');
});

import { describe, expect, test } from 'bun:test';
import { JsonFault, JsonReader } from '../../../../src/json/reader.ts';
import { parseShape, type Shape } from '../../../../src/json/shapes.ts';
import { formatFloat } from '../../../../src/json/text.ts';
import { formatValue, readValue } from '../../../../src/json/value.ts';
import * as B from '../../../../src/api/firecracker/request/bodies.ts';
import { CpuTemplate } from '../../../../src/api/firecracker/request/cpu-template.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

function faultOf(shape: Shape<unknown>, text: string): string {
  try {
    parseShape(bytes(text), shape);
  } catch (error) {
    if (error instanceof JsonFault) return error.message;
    throw error;
  }
  return 'no fault';
}

describe('bodies are refused with the words and positions of serde_json', () => {
  // Answers of Firecracker 1.17.0-dev.
  const cases: [Shape<unknown>, string, string][] = [
    [B.BootSource, '', 'EOF while parsing a value at line 1 column 0'],
    [B.BootSource, '{', 'EOF while parsing an object at line 1 column 1'],
    [B.BootSource, '{}', 'missing field `kernel_image_path` at line 1 column 2'],
    [
      B.BootSource,
      '[]',
      'invalid length 0, expected struct BootSourceConfig with 3 elements at line 1 column 2',
    ],
    [B.BootSource, '5', 'invalid type: integer `5`, expected struct BootSourceConfig at line 1 column 1'],
    [
      B.BootSource,
      '{\n "kernel_image_path":\n  1.5}',
      'invalid type: floating point `1.5`, expected a string at line 3 column 5',
    ],
    [B.BootSource, '{"kernel_image_path": "a",}', 'trailing comma at line 1 column 27'],
    [B.BootSource, '{"kernel_image_path": "a"} x', 'trailing characters at line 1 column 28'],
    [
      B.Vm,
      '{"state": "Bogus"}',
      'unknown variant `Bogus`, expected `Paused` or `Resumed` at line 1 column 17',
    ],
    [B.Vm, '{"state": "Paused", "state": "Paused"}', 'duplicate field `state` at line 1 column 27'],
    [B.Vm, '{"state": 1}', 'expected value at line 1 column 11'],
    [
      B.Vm,
      '{"state": "\u0001"}',
      'control character (\\u0000-\\u001F) found while parsing a string at line 1 column 12',
    ],
    [
      B.Balloon,
      '{"amount_mib": 4294967296, "deflate_on_oom": true}',
      'invalid value: integer `4294967296`, expected u32 at line 1 column 25',
    ],
    [B.Balloon, '{"amount_mib": 01}', 'invalid number at line 1 column 17'],
    [B.Logger, '{"level": "Bogus"}', 'Invalid LevelFilter at line 1 column 18'],
    [
      B.MmdsConfig,
      '{"network_interfaces": "a"}',
      'invalid type: string "a", expected a sequence at line 1 column 26',
    ],
    [
      B.MmdsConfig,
      '{"network_interfaces": [], "ipv4_address": "1.2"}',
      'invalid IPv4 address syntax at line 1 column 48',
    ],
    [
      CpuTemplate,
      '{"msr_modifiers": [{"addr": "0x0", "bitmap": "0b2"}]}',
      'Failed to parse string [0b2] as a bitmap - unknown character: 50 at line 1 column 51',
    ],
  ];

  test.each(cases)('%#: %p', (shape, text, message) => {
    expect(faultOf(shape, text)).toBe(message);
  });
});

test('a body may be a list of its fields', () => {
  const body = parseShape(bytes('["/kernel", null, "quiet"]'), B.BootSource);

  expect(body).toEqual({ kernel_image_path: '/kernel', initrd_path: null, boot_args: 'quiet' });
});

test('bits of a template are counted from the right, and underscores are skipped', () => {
  const text = '{"msr_modifiers": [{"addr": "0x10", "bitmap": "0b1x_0"}]}';
  const { msr_modifiers: modifiers } = parseShape(bytes(text), CpuTemplate);

  expect(modifiers).toEqual([{ addr: 0x10, bitmap: { filter: 0b101n, value: 0b100n } }]);
});

test('any value comes back as it was, but for white space and the order of keys', () => {
  const text = '{"b": [1, 1.0, -0, 18446744073709551615, 1e300, 0.00001, null, true], "a": "\\u00e9\\n"}';
  const value = readValue(new JsonReader(bytes(text)));

  expect(formatValue(value)).toBe(
    '{"a":"é\\n","b":[1,1.0,-0.0,18446744073709551615,1e+300,0.00001,null,true]}',
  );
});

test.each([
  [1e15, '1000000000000000.0'],
  [1e16, '1e+16'],
  [1.5e-7, '1.5e-7'],
  [0.001, '0.001'],
])('%p is printed as %s', (value, text) => {
  expect(formatFloat(value)).toBe(text);
});

test('a value that is nested too deeply is refused', () => {
  const text = '['.repeat(200);

  expect(faultOf({ read: readValue }, text)).toBe('recursion limit exceeded at line 1 column 128');
});

/** Values in the words of Rust, as Firecracker's messages and answers have them. */

/** A double in the shortest form that reads back the same, with a decimal point or an exponent. (as serde_json prints it) */
export function formatFloat(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  const [mantissa = '', exponent] = value.toExponential().split('e');
  const power = Number(exponent);
  if (power >= 16 || power < -5) return `${mantissa}e${power < 0 ? '' : '+'}${power}`;
  const text = value.toString();
  if (text.includes('e')) return value.toFixed(-power + mantissa.replace(/[-.]/g, '').length - 1);
  return text.includes('.') ? text : `${text}.0`;
}

/** A string as Rust's `{:?}` prints it. */
export function debugString(text: string): string {
  const escaped = text.replace(
    /["\\\x00-\x1f\x7f]/g,
    (char) => DEBUG_ESCAPES[char] ?? `\\u{${char.charCodeAt(0).toString(16)}}`,
  );
  return `"${escaped}"`;
}

const DEBUG_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\0': '\\0',
};

/** `a`, `a` or `b`, one of `a`, `b`, `c`. */
export function alternatives(names: readonly string[]): string {
  const quoted = names.map((name) => `\`${name}\``);
  return quoted.length <= 2 ? quoted.join(' or ') : `one of ${quoted.join(', ')}`;
}

/** Order of the bytes of UTF-8, which is that of Rust's strings. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Why a text is no u32, by the names of Rust's IntErrorKind. */
export type IntFault = 'Empty' | 'InvalidDigit' | 'PosOverflow';

/** A u32 in `radix`; faults are found from the left, as by `u32::from_str_radix`. */
export function parseU32(text: string, radix: 2 | 10 | 16): number | IntFault {
  if (text === '') return 'Empty';
  const digits = text.startsWith('+') ? text.slice(1) : text;
  if (digits === '') return 'InvalidDigit';
  let value = 0;
  for (const char of digits) {
    const digit = /^[\da-f]$/i.test(char) ? Number.parseInt(char, 16) : radix;
    if (digit >= radix) return 'InvalidDigit';
    value = value * radix + digit;
    if (value > 0xffff_ffff) return 'PosOverflow';
  }
  return value;
}

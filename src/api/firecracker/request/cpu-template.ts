/** A CPU template: masks over CPUID and MSRs. (Firecracker, docs/cpu_templates/cpu-templates.md) */
import { JsonFault } from '../../../json/reader.ts';
import { parseU32, type IntFault } from '../../../json/text.ts';
import { checkedString, list, struct, u32, withDefault, type ValueOf } from '../../../json/shapes.ts';

/** Bits of a register: those of `filter` become those of `value`. */
export interface RegisterFilter {
  readonly filter: bigint;
  readonly value: bigint;
}

const bitmap = (bits: number) =>
  checkedString((text): RegisterFilter => {
    let [filter, value, bit] = [0n, 0n, 0n];
    const digits = text.startsWith('0b') ? text.slice(2) : text;
    for (const digit of Buffer.from(digits).toReversed()) {
      if (bit === BigInt(bits))
        throw new JsonFault(`Failed to parse string [${text}] as a bitmap - string is too long`);
      const char = String.fromCharCode(digit);
      if (char === '_') continue;
      if (char !== 'x' && char !== '0' && char !== '1')
        throw new JsonFault(`Failed to parse string [${text}] as a bitmap - unknown character: ${digit}`);
      if (char !== 'x') filter |= 1n << bit;
      if (char === '1') value |= 1n << bit;
      bit++;
    }
    return { filter, value };
  });

/** A u32 as `0x…` or `0b…`. */
const prefixed = checkedString((text): number => {
  const radix = text.startsWith('0b') ? 2 : text.startsWith('0x') ? 16 : undefined;
  if (radix === undefined)
    throw new JsonFault(
      `No supported number system prefix found in value [${text}]. Make sure to prefix the number with '0x' for hexadecimal numbers or '0b' for binary numbers.`,
    );
  const value = parseU32(text.slice(2), radix);
  if (typeof value === 'number') return value;
  throw new JsonFault(
    `Failed to parse string [${text}] as a number for CPU template - ParseIntError { kind: ${value} }`,
  );
});

const register = checkedString((text) => {
  if (text === 'eax' || text === 'ebx' || text === 'ecx' || text === 'edx') return text;
  throw new JsonFault('Invalid CPUID register. Must be one of [eax, ebx, ecx, edx]');
});

/** `1234`: KVM must have this capability; `!1234`: it need not. */
const capability = checkedString((text) => {
  const digits = text.startsWith('!') ? text.slice(1) : text;
  const value = parseU32(digits, 10);
  if (typeof value === 'number') return { number: value, needed: !text.startsWith('!') };
  throw new JsonFault(
    `Failed to parse string [${text}] as a kvm capability - can not convert to numeric: ${REASONS[value]}`,
  );
});

const REASONS: Readonly<Record<IntFault, string>> = {
  Empty: 'cannot parse integer from empty string',
  InvalidDigit: 'invalid digit found in string',
  PosOverflow: 'number too large to fit in target type',
};

export const CpuTemplate = struct('CustomCpuTemplate', {
  kvm_capabilities: withDefault(list(capability), () => []),
  cpuid_modifiers: withDefault(
    list(
      struct(
        'CpuidLeafModifier',
        {
          leaf: prefixed,
          subleaf: prefixed,
          flags: u32,
          modifiers: list(struct('CpuidRegisterModifier', { register, bitmap: bitmap(32) }, { open: true })),
        },
        { open: true },
      ),
    ),
    () => [],
  ),
  msr_modifiers: withDefault(
    list(struct('RegisterModifier', { addr: prefixed, bitmap: bitmap(64) }, { open: true })),
    () => [],
  ),
});
export type CpuTemplateBody = ValueOf<typeof CpuTemplate>;

/** The section `cpu-config`, in the form of Firecracker's custom CPU templates. */
import * as v from 'valibot';
import type { BitMask, CpuTemplate } from '../cpuid/cpu-template.ts';
import { found, listOf, oneOf, optional, section, wholeNumber } from '../schema/values.ts';

const MAX_U32 = 0xffff_ffff;

/** A u32 as `0x…` or `0b…`. */
const prefixed = v.pipe(
  v.string((issue) => `${found(issue.input)} (expected a number such as "0x1")`),
  v.check(
    (value) => /^0(x[\da-f]{1,8}|b[01]{1,32})$/i.test(value),
    (issue) => `${found(issue.input)} (expected 32 bits such as "0x1" or "0b1")`,
  ),
  v.transform(Number),
);

/** `0b` and, from the highest bit on, 1 and 0 for bits that are set so, x for others; `_` between them. */
const bitmap = (bits: number) =>
  v.pipe(
    v.string((issue) => `${found(issue.input)} (expected a string such as "0bxx01")`),
    v.check(
      (value) => /^0b[01x_]+$/.test(value) && value.replaceAll('_', '').length <= bits + 2,
      (issue) => `${found(issue.input)} (expected at most ${bits} digits such as "0bxx01")`,
    ),
    v.transform((value): BitMask => {
      const digits = value.slice(2).replaceAll('_', '');
      return {
        filter: BigInt(`0b${digits.replaceAll('0', '1').replaceAll('x', '0') || '0'}`),
        value: BigInt(`0b${digits.replaceAll('x', '0') || '0'}`),
      };
    }),
  );

const CpuConfigSchema = section({
  /** `1234` must be there; `!1234` need not. */
  kvm_capabilities: optional(
    listOf(
      v.pipe(
        v.string((issue) => `${found(issue.input)} (expected a string such as "121")`),
        v.check(
          (value) => /^!?\d{1,9}$/.test(value),
          (issue) =>
            `${found(issue.input)} (expected a number of KVM_CAP, with ! for one that is not needed)`,
        ),
      ),
    ),
    [],
  ),
  cpuid_modifiers: optional(
    listOf(
      section({
        leaf: prefixed,
        subleaf: prefixed,
        flags: wholeNumber(0, MAX_U32),
        modifiers: listOf(section({ register: oneOf(['eax', 'ebx', 'ecx', 'edx']), bitmap: bitmap(32) })),
      }),
    ),
    [],
  ),
  msr_modifiers: optional(listOf(section({ addr: prefixed, bitmap: bitmap(64) })), []),
});

/** A CPU template; undefined: none. */
export const CpuTemplateSchema = optional(
  v.pipe(
    CpuConfigSchema,
    v.transform(({ kvm_capabilities: capabilities, cpuid_modifiers: leaves, msr_modifiers: msrs }) => {
      const template: CpuTemplate = {
        capabilities: capabilities.filter((text) => !text.startsWith('!')).map(Number),
        cpuid: leaves.map(({ leaf, subleaf, flags, modifiers }) => ({
          ...{ leaf, subleaf, flags },
          registers: modifiers.map(({ register, bitmap: mask }) => ({ register, ...mask })),
        })),
        msrs: msrs.map(({ addr: index, bitmap: mask }) => ({ index, ...mask })),
      };
      return template;
    }),
  ),
);

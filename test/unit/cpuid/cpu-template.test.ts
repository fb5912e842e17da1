import { describe, expect, test } from 'bun:test';
import { parseConfig } from '../../../src/config/config.ts';
import { applyCpuidTemplate, checkTemplateHost, CpuTemplateError } from '../../../src/cpuid/cpu-template.ts';
import { STATIC_TEMPLATES, staticTemplate } from '../../../src/cpuid/static-templates.ts';
import type { CpuidEntry } from '../../../src/machine/cpuid-entry.ts';

const entry = (leaf: number, index: number, registers: Partial<CpuidEntry>): CpuidEntry => ({
  ...{ function: leaf, index, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 },
  ...registers,
});
const INTEL = { ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e };
const ALL = 0xffff_ffff;
const everything = { eax: ALL, ebx: ALL, ecx: ALL, edx: ALL };

const host = (version: number): CpuidEntry[] => [
  entry(0, 0, INTEL),
  entry(1, 0, { ...everything, eax: version }),
  entry(7, 0, everything),
  entry(0xd, 0, everything),
  entry(0xd, 1, everything),
  entry(0x8000_0001, 0, everything),
  entry(0x8000_0008, 0, everything),
];
const SKYLAKE = 0x50654;
const ICE_LAKE = 0x606a6;

describe('a static template', () => {
  test('makes a Skylake look like T2', () => {
    const table = applyCpuidTemplate(staticTemplate('T2'), host(SKYLAKE));

    expect(table[1]).toMatchObject({ eax: 0x306f2, ecx: 0xfffb_3203, edx: 0x179b_ffff });
    expect(table[2]).toMatchObject({ flags: 1, ebx: 0x1027eb, ecx: 0xbfbe_a0a1, edx: 0xffff_fee3 });
    expect(table[3]).toMatchObject({ eax: 0xffff_fd07 });
    expect(table[6]).toMatchObject({ flags: 0, ebx: 0xffff_fdff, eax: ALL });
  });

  test('is for the CPUs that it names', () => {
    const mismatch = (name: 'T2S' | 'T2A' | 'C3') => {
      try {
        checkTemplateHost(staticTemplate(name), host(ICE_LAKE));
        return undefined;
      } catch (error) {
        return error instanceof CpuTemplateError ? error.mismatch : error;
      }
    };

    expect([mismatch('C3'), mismatch('T2S'), mismatch('T2A')]).toEqual([undefined, 'model', 'vendor']);
  });

  test('has masks whose values are among their bits', () => {
    const masks = STATIC_TEMPLATES.map(staticTemplate).flatMap(({ cpuid, msrs }) => [
      ...cpuid.flatMap(({ registers }) => registers),
      ...msrs,
    ]);

    expect(masks.length).toBeGreaterThan(50);
    expect(masks.filter(({ filter, value }) => (value & ~filter) !== 0n)).toEqual([]);
  });
});

describe('cpu-config of a configuration file', () => {
  const template = (section: unknown) => parseConfig({ 'cpu-config': section }).config.cpuTemplate;

  test('becomes masks', () => {
    const modifiers = [{ register: 'ecx', bitmap: '0b1_0xx' }];

    expect(
      template({
        kvm_capabilities: ['121', '!5'],
        cpuid_modifiers: [{ leaf: '0x1', subleaf: '0b10', flags: 0, modifiers }],
        msr_modifiers: [{ addr: '0x10a', bitmap: '0bx' }],
      }),
    ).toEqual({
      capabilities: [121],
      cpuid: [
        {
          ...{ leaf: 1, subleaf: 2, flags: 0 },
          registers: [{ register: 'ecx', filter: 0b1100n, value: 0b1000n }],
        },
      ],
      msrs: [{ index: 0x10a, filter: 0n, value: 0n }],
    });
    expect(template(null)).toBeUndefined();
  });

  test.each([
    [{ msr_modifiers: [{ addr: '10a', bitmap: '0b1' }] }, 'expected 32 bits such as "0x1" or "0b1"'],
    [{ msr_modifiers: [{ addr: '0x1', bitmap: '0b2' }] }, 'expected at most 64 digits'],
    [{ kvm_capabilities: ['x'] }, 'expected a number of KVM_CAP'],
    [5, 'expected an object'],
  ])('%j is refused', (section, expected) => {
    expect(() => template(section)).toThrow(expected);
  });

  test('replaces the static template of machine-config', () => {
    const { config } = parseConfig({ 'machine-config': { cpu_template: 'T2' }, 'cpu-config': {} });

    expect(config.cpuTemplate).toEqual({ capabilities: [], cpuid: [], msrs: [] });
  });
});

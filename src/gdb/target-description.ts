/**
 * The registers of a vCPU as gdb knows them, by number, and the XML that describes them. Pure.
 * (GDB manual, appendix G "Target Descriptions", G.5.12 "i386 Features")
 */

interface RegisterSpec {
  readonly name: string;
  readonly bits: number;
  readonly type?: string;
}

interface Feature {
  readonly name: string;
  readonly types?: string;
  readonly registers: readonly RegisterSpec[];
  /** Under which name `info registers GROUP` lists registers that gdb does not know. */
  readonly group?: string;
}

const numbered = (prefix: string, count: number, rest: Omit<RegisterSpec, 'name'>) =>
  Array.from({ length: count }, (_, i) => ({ name: `${prefix}${i}`, ...rest }));
const named = (names: string, rest: Omit<RegisterSpec, 'name'>) =>
  names.split(' ').map((name) => ({ name, ...rest }));

const EFLAGS = `<flags id="i386_eflags" size="4">
<field name="CF" start="0" end="0"/><field name="" start="1" end="1"/><field name="PF" start="2" end="2"/>
<field name="AF" start="4" end="4"/><field name="ZF" start="6" end="6"/><field name="SF" start="7" end="7"/>
<field name="TF" start="8" end="8"/><field name="IF" start="9" end="9"/><field name="DF" start="10" end="10"/>
<field name="OF" start="11" end="11"/><field name="NT" start="14" end="14"/><field name="RF" start="16" end="16"/>
<field name="VM" start="17" end="17"/><field name="AC" start="18" end="18"/><field name="VIF" start="19" end="19"/>
<field name="VIP" start="20" end="20"/><field name="ID" start="21" end="21"/>
</flags>`;

const VECTORS = `<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>
<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>
<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>
<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>
<flags id="i386_mxcsr" size="4"><field name="IE" start="0" end="0"/><field name="DE" start="1" end="1"/>
<field name="ZE" start="2" end="2"/><field name="OE" start="3" end="3"/><field name="UE" start="4" end="4"/>
<field name="PE" start="5" end="5"/><field name="DAZ" start="6" end="6"/><field name="IM" start="7" end="7"/>
<field name="DM" start="8" end="8"/><field name="ZM" start="9" end="9"/><field name="OM" start="10" end="10"/>
<field name="UM" start="11" end="11"/><field name="PM" start="12" end="12"/><field name="FZ" start="15" end="15"/>
</flags>`;

const flagsType = (id: string, fields: Readonly<Record<string, number>>) =>
  `<flags id="${id}" size="8">${Object.entries(fields)
    .map(([name, bit]) => `<field name="${name}" start="${bit}" end="${bit}"/>`)
    .join('')}</flags>`;

/** (Intel SDM 3A §2.5; AMD APM 2 §3.1.7) */
const SYSTEM_TYPES = [
  flagsType('volt_cr0', { PE: 0, MP: 1, EM: 2, TS: 3, ET: 4, NE: 5, WP: 16, AM: 18, NW: 29, CD: 30, PG: 31 }),
  flagsType('volt_cr4', {
    ...{ VME: 0, PVI: 1, TSD: 2, DE: 3, PSE: 4, PAE: 5, MCE: 6, PGE: 7, PCE: 8, OSFXSR: 9, OSXMMEXCPT: 10 },
    ...{ UMIP: 11, LA57: 12, VMXE: 13, SMXE: 14, FSGSBASE: 16, PCIDE: 17, OSXSAVE: 18, SMEP: 20, SMAP: 21 },
    ...{ PKE: 22 },
  }),
  flagsType('volt_efer', { SCE: 0, LME: 8, LMA: 10, NXE: 11, SVME: 12, LMSLE: 13, FFXSR: 14, TCE: 15 }),
].join('\n');

const FEATURES: readonly Feature[] = [
  {
    name: 'org.gnu.gdb.i386.core',
    types: EFLAGS,
    registers: [
      ...named('rax rbx rcx rdx rsi rdi', { bits: 64, type: 'int64' }),
      ...named('rbp rsp', { bits: 64, type: 'data_ptr' }),
      ...named('r8 r9 r10 r11 r12 r13 r14 r15', { bits: 64, type: 'int64' }),
      { name: 'rip', bits: 64, type: 'code_ptr' },
      { name: 'eflags', bits: 32, type: 'i386_eflags' },
      ...named('cs ss ds es fs gs', { bits: 32, type: 'int32' }),
      ...numbered('st', 8, { bits: 80, type: 'i387_ext' }),
      ...named('fctrl fstat ftag fiseg fioff foseg fooff fop', { bits: 32, type: 'int' }),
    ],
  },
  {
    name: 'org.gnu.gdb.i386.sse',
    types: VECTORS,
    registers: [
      ...numbered('xmm', 16, { bits: 128, type: 'vec128' }),
      { name: 'mxcsr', bits: 32, type: 'i386_mxcsr' },
    ],
  },
  {
    name: 'org.gnu.gdb.i386.segments',
    registers: named('fs_base gs_base', { bits: 64, type: 'int64' }),
  },
  {
    name: 'volt.x86.system',
    types: SYSTEM_TYPES,
    group: 'system',
    registers: [
      { name: 'cr0', bits: 64, type: 'volt_cr0' },
      ...named('cr2 cr3', { bits: 64, type: 'data_ptr' }),
      { name: 'cr4', bits: 64, type: 'volt_cr4' },
      { name: 'cr8', bits: 64, type: 'int64' },
      { name: 'efer', bits: 64, type: 'volt_efer' },
      ...named('kernel_gs_base cs_base ss_base ds_base es_base', { bits: 64, type: 'data_ptr' }),
      ...named('tr ldtr', { bits: 32, type: 'int32' }),
      ...named('tr_base gdt_base idt_base', { bits: 64, type: 'data_ptr' }),
      ...named('gdt_limit idt_limit', { bits: 32, type: 'int32' }),
      { name: 'apic_base', bits: 64, type: 'int64' },
    ],
  },
];

export interface GdbRegister {
  readonly name: string;
  readonly bytes: number;
  /** In a `g` packet, whose registers follow each other. */
  readonly offset: number;
}

/** By gdb's number. */
export const GDB_REGISTERS: readonly GdbRegister[] = layOut();
/** Size of what `g` reads. */
export const GDB_REGISTERS_BYTES = GDB_REGISTERS.reduce((sum, { bytes }) => sum + bytes, 0);

function layOut(): GdbRegister[] {
  let offset = 0;
  return FEATURES.flatMap(({ registers }) => registers).map(({ name, bits }) => {
    const register = { name, bytes: bits / 8, offset };
    offset += register.bytes;
    return register;
  });
}

/** The annex `target.xml`. */
export function describeTarget(): string {
  const features = FEATURES.map(({ name, types = '', registers, group }) => {
    const regs = registers.map(({ name: register, bits, type }) => {
      const groupOf = group === undefined ? '' : ` group="${group}"`;
      return `<reg name="${register}" bitsize="${bits}" type="${type ?? 'int'}"${groupOf}/>`;
    });
    return `<feature name="${name}">\n${types}\n${regs.join('\n')}\n</feature>`;
  });
  return [
    '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target version="1.0">',
    '<architecture>i386:x86-64</architecture>',
    ...features,
    '</target>\n',
  ].join('\n');
}

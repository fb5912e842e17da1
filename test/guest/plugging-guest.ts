/** A guest that takes and gives CPUs by the hotplug registers, as a kernel does through its DSDT. */
import { LAYOUT } from '../../src/machine/layout.ts';
import { CPU_HOTPLUG, CPU_HOTPLUG_STATUS, PORT } from '../../src/machine/ports.ts';
import { copyTo8000 } from './running.ts';
import { asm, program, u32 } from './tiny-guest.ts';

/** 16-bit: out 0x3F8, 'a'; cli; hlt; jmp back */
const AP_SAYS_A = [0xba, 0xf8, 0x03, 0xb0, 0x61, 0xee, 0xfa, 0xf4, 0xeb, 0xfc];
const SIPI_VECTOR = 8;
const ICR_LOW = LAYOUT.localApic.address + 0x300;
const ICR_HIGH = LAYOUT.localApic.address + 0x310;
const INIT = 0x4500;
const STARTUP = 0x4600;

const register = (offset: number) => PORT.cpuHotplug + offset;
const toEbx = [0x89, 0xc3]; // mov ebx, eax
const toEcx = [0x89, 0xc1]; // mov ecx, eax
/** ZF when ECX has `bit`: mov eax, ecx; and al, bit; xor al, bit */
const has = (bit: number) => [0x89, 0xc8, 0x24, bit, 0x34, bit];
const sendIpi = (command: number) => [
  ...[0x89, 0xd8, 0xc1, 0xe0, 0x18, ...asm.storeEax(ICR_HIGH)], // mov eax, ebx; shl eax, 24
  ...[...asm.loadEax(command), ...asm.storeEax(ICR_LOW)],
];
/** _OST: the event is over, with success. */
const tellSuccess = [
  ...asm.out32(register(CPU_HOTPLUG.ostEvent), 0),
  ...asm.out32(register(CPU_HOTPLUG.ostStatus), 0),
];

/** Says "b" on its boot CPU; each CPU that is plugged says "a". Ids of local APICs are the CPUs' indices. */
export function pluggingGuest(): Uint8Array {
  const { inserted, removing, eject } = CPU_HOTPLUG_STATUS;
  const start = [
    ...asm.out32(register(CPU_HOTPLUG.status), inserted),
    ...[...sendIpi(INIT), ...sendIpi(STARTUP | SIPI_VECTOR), ...tellSuccess],
  ];
  const giveBack = [
    ...asm.out32(register(CPU_HOTPLUG.status), removing),
    ...[...asm.out32(register(CPU_HOTPLUG.status), eject), ...tellSuccess],
  ];
  const look = [
    // inc eax: zero when no CPU has an event
    ...[...asm.in32(register(CPU_HOTPLUG.next)), ...toEbx, 0x40, 0x0f, 0x84],
  ];
  const handle = [
    ...[...asm.in32(register(CPU_HOTPLUG.status)), ...toEcx],
    ...[...has(inserted), ...asm.ifZero(start)],
    ...[...has(removing), ...asm.ifZero(giveBack)],
  ];
  return program(
    copyTo8000(AP_SAYS_A),
    asm.print('b'),
    asm.forEver([...look, ...u32(handle.length), ...handle]),
  );
}

/**
 * CMOS RAM and real-time clock: the host's time in UTC, as BCD in 24-hour mode, and the memory sizes that PC
 * firmware stores. Writes have no effect. (Motorola MC146818A datasheet; registers above 0x0D: IBM PC AT
 * Technical Reference)
 */
import { GIB, KIB, MIB } from '../machine/address.ts';
import { CMOS_CENTURY } from '../machine/ports.ts';

export const CMOS_WORD = { index: 0, size: 1 } as const;

const REGISTER = {
  seconds: 0x00,
  minutes: 0x02,
  hours: 0x04,
  dayOfWeek: 0x06,
  dayOfMonth: 0x07,
  month: 0x08,
  year: 0x09,
  statusA: 0x0a,
  statusB: 0x0b,
  statusD: 0x0d,
  baseMemoryLow: 0x15,
  baseMemoryHigh: 0x16,
  extendedMemoryLow: 0x17,
  extendedMemoryHigh: 0x18,
  extendedMemoryLow2: 0x30,
  extendedMemoryHigh2: 0x31,
  century: CMOS_CENTURY,
  memoryAbove16MibLow: 0x34,
  memoryAbove16MibHigh: 0x35,
} as const;

/** 32768 Hz time base, 1024 Hz periodic rate. UIP is never set: each read takes the time of that instant. */
const STATUS_A = 0x26;
/** 24-hour mode, BCD, no interrupts enabled. */
const STATUS_B = 0x02;
/** VRT, valid RAM and time: the battery is good. */
const STATUS_D = 0x80;
const BASE_MEMORY_KIB = 640;

/** Port 0x70 written: bit 7 masks NMI, which is ignored; bits 6–0 select a byte. */
export function cmosSelect(words: Int32Array, value: number): void {
  words[CMOS_WORD.index] = value & 0x7f;
}

/**
 * Port 0x71 read. `now` is in milliseconds since 1970, UTC; `lowMemoryBytes` is the RAM below the MMIO hole.
 */
export function cmosRead(words: Int32Array, now: number, lowMemoryBytes: number): number {
  const register = words[CMOS_WORD.index]!;
  if (register <= REGISTER.year || register === REGISTER.century)
    return clockRegister(register, new Date(now));
  switch (register) {
    case REGISTER.statusA:
      return STATUS_A;
    case REGISTER.statusB:
      return STATUS_B;
    case REGISTER.statusD:
      return STATUS_D;
    case REGISTER.baseMemoryLow:
      return BASE_MEMORY_KIB & 0xff;
    case REGISTER.baseMemoryHigh:
      return BASE_MEMORY_KIB >> 8;
    case REGISTER.extendedMemoryLow:
    case REGISTER.extendedMemoryLow2:
      return extendedKib(lowMemoryBytes) & 0xff;
    case REGISTER.extendedMemoryHigh:
    case REGISTER.extendedMemoryHigh2:
      return extendedKib(lowMemoryBytes) >> 8;
    case REGISTER.memoryAbove16MibLow:
      return above16Mib(lowMemoryBytes) & 0xff;
    case REGISTER.memoryAbove16MibHigh:
      return above16Mib(lowMemoryBytes) >> 8;
    default:
      return 0;
  }
}

function clockRegister(register: number, time: Date): number {
  switch (register) {
    case REGISTER.seconds:
      return bcd(time.getUTCSeconds());
    case REGISTER.minutes:
      return bcd(time.getUTCMinutes());
    case REGISTER.hours:
      return bcd(time.getUTCHours());
    case REGISTER.dayOfWeek:
      return time.getUTCDay() + 1;
    case REGISTER.dayOfMonth:
      return bcd(time.getUTCDate());
    case REGISTER.month:
      return bcd(time.getUTCMonth() + 1);
    case REGISTER.year:
      return bcd(time.getUTCFullYear() % 100);
    case REGISTER.century:
      return bcd(Math.floor(time.getUTCFullYear() / 100));
    default:
      // The alarm registers.
      return 0;
  }
}

function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}

/** KiB between 1 and 64 MiB. */
function extendedKib(lowMemoryBytes: number): number {
  return Math.min(lowMemoryBytes - MIB, 63 * MIB) / KIB;
}

/** Units of 64 KiB between 16 MiB and the MMIO hole. */
function above16Mib(lowMemoryBytes: number): number {
  return Math.floor(Math.max(0, Math.min(lowMemoryBytes, 4 * GIB) - 16 * MIB) / (64 * KIB));
}

/**
 * The first access to the PIT and to port 0x61, which share its channel 2. It makes the PIT (src/kvm/pit.ts), which
 * answers all others itself: most guests have better clocks, and a VM without a PIT is made and unmade sooner.
 * (Intel 8254 data sheet, "Control Word Format"; Intel ICH9 data sheet §13.7.1, NMI_SC)
 */
import type { PitChange } from '../machine/pit-change.ts';
import { PORT } from '../machine/ports.ts';

const READ_BACK = 3;
const LATCH = 0;
const SPEAKER_CHANNEL = 2;
const GATE_BIT = 0x01;
const SPEAKER_BIT = 0x02;

export function isPitPort(port: number): boolean {
  return (port >= PORT.pit && port <= PORT.pitControl) || port === PORT.systemControlB;
}

/** What it reads before anything was written: no counter runs, and the gate of channel 2 is closed. */
export const PIT_RESET_VALUE = 0;

/** undefined for what only prepares a read. */
export function decodePitWrite(port: number, value: number): PitChange | undefined {
  if (port === PORT.systemControlB) {
    const gate = value & GATE_BIT;
    return { kind: 'gate', channel: SPEAKER_CHANNEL, gate, speaker: (value & SPEAKER_BIT) !== 0 };
  }
  // A counter without a control word takes one byte.
  if (port !== PORT.pitControl) return { kind: 'count', channel: port - PORT.pit, count: value };
  const channel = value >>> 6;
  const access = (value >>> 4) & 3;
  if (channel === READ_BACK || access === LATCH) return undefined;
  const mode = (value >>> 1) & 7;
  // Modes 6 and 7 are 2 and 3, whose highest bit does not count.
  return { kind: 'control', channel, access, mode: mode > 5 ? mode - 4 : mode, bcd: value & 1 };
}

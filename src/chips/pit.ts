/**
 * Decodes the first access to the PIT or to port 0x61, which controls the PIT's channel 2. That access
 * creates KVM's in-kernel PIT (src/kvm/pit.ts), which handles all later ones. Most guests have a better clock
 * and never touch it, and a VM without a PIT starts and ends faster. (Intel 8254 datasheet, "Control Word
 * Format"; Intel ICH9 datasheet §13.7.1, NMI_SC)
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

/** What its ports read before the first write: counters stopped, gate of channel 2 low. */
export const PIT_RESET_VALUE = 0;

/** What a first write changes; undefined for a latch or read-back command, which only prepares a read. */
export function decodePitWrite(port: number, value: number): PitChange | undefined {
  if (port === PORT.systemControlB) {
    const gate = value & GATE_BIT;
    return { kind: 'gate', channel: SPEAKER_CHANNEL, gate, speaker: (value & SPEAKER_BIT) !== 0 };
  }
  // Without a control word, a counter takes the low byte only.
  if (port !== PORT.pitControl) return { kind: 'count', channel: port - PORT.pit, count: value };
  const channel = value >>> 6;
  const access = (value >>> 4) & 3;
  if (channel === READ_BACK || access === LATCH) return undefined;
  const mode = (value >>> 1) & 7;
  // Modes 6 and 7 are modes 2 and 3: the high bit is a don't-care.
  return { kind: 'control', channel, access, mode: mode > 5 ? mode - 4 : mode, bcd: value & 1 };
}

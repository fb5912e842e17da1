/**
 * State of a device's PCI function in a snapshot: its configuration space, MSI-X table and pending bits. The file is
 * untrusted: what cannot be written by software stays as this machine has it.
 */
import * as v from 'valibot';
import { signalEventFd } from '../../ffi/epoll.ts';
import { configRegister, FUNCTION_WORD, MAX_VECTORS, type FunctionShape } from '../../pci/function-state.ts';
import { writeMsixTable } from '../../pci/msix.ts';
import { COMMAND, CONFIG, MSIX_CAPABILITY, MSIX_CONTROL, MSIX_ENTRY } from '../../pci/regs.ts';
import { listOf, section, wholeNumber } from '../../schema/values.ts';
import { VoltError } from '../../volt-error.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord, type DeviceState } from '../transport/device-state.ts';
import type { VirtioShape } from '../transport/pci-shape.ts';
import { MAX_PCI_SLOTS } from './placement.ts';

const F = FUNCTION_WORD;
const W = DEVICE_WORD;
const CONFIG_WORDS = CONFIG.size / 4;
const ENTRY_WORDS = MSIX_ENTRY.size / 4;

const u32 = wholeNumber(0, 0xffff_ffff);

const atMost = (count: number) =>
  v.pipe(
    listOf(u32),
    v.maxLength(count, (issue) => `${issue.received} numbers (expected at most ${count})`),
  );

export const SavedPciSchema = section({
  /** Bus × 32 + device. */
  slot: wholeNumber(1, MAX_PCI_SLOTS - 1),
  /** Configuration space, in double words. */
  config: atMost(CONFIG_WORDS),
  /** MSI-X table, in double words. */
  table: atMost(ENTRY_WORDS * MAX_VECTORS),
  /** 1 + vector of configuration changes and of each queue; 0: none. */
  vectors: atMost(MAX_VECTORS),
  /** Sources, numbered in that order, that were signalled while their vector was masked. */
  pending: atMost(MAX_VECTORS),
});

export type SavedPci = v.InferOutput<typeof SavedPciSchema>;

/** `isPending` says so of a source's eventfd. */
export function savePci(
  slot: number,
  words: Int32Array,
  state: DeviceState,
  isPending: (source: number) => boolean,
): SavedPci {
  const unsigned = (from: number, count: number) =>
    Array.from(words.subarray(from, from + count), (each) => each >>> 0);
  const sources = [W.configVector, ...queueVectors(state)];
  return {
    slot,
    config: unsigned(F.config, CONFIG_WORDS),
    table: unsigned(F.table, words[F.vectors]! * ENTRY_WORDS),
    vectors: sources.map((at) => state.words[at]!),
    pending: sources.flatMap((_, source) => (isPending(source) ? [source] : [])),
  };
}

/** Gives a function that was powered on what its driver wrote. Throws VoltError 'config' for another device's state. */
export function restorePci(
  words: Int32Array,
  shape: VirtioShape,
  state: DeviceState,
  saved: SavedPci,
  name: string,
): void {
  const targets = [W.configVector, ...queueVectors(state)];
  const vectors = words[F.vectors]!;
  const problem =
    saved.config.length !== CONFIG_WORDS || saved.table.length !== vectors * ENTRY_WORDS
      ? 'its configuration space or its MSI-X table has another size'
      : saved.vectors.length !== targets.length || saved.vectors.some((vector) => vector > vectors)
        ? 'a queue has a vector that its table does not have'
        : saved.pending.some((source) => source >= targets.length)
          ? 'a source of interrupts is pending that it does not have'
          : undefined;
  if (problem !== undefined)
    throw new VoltError(
      'config',
      `Cannot restore device ${name}: ${problem} (expected the state of this device)`,
    );
  restoreConfigSpace(words, shape, saved.config);
  saved.table.forEach((value, i) => writeMsixTable(words, 4 * i, 4, value));
  targets.forEach((at, source) => (state.words[at] = saved.vectors[source]!));
  const control = configRegister(words, shape.msixCapability + MSIX_CAPABILITY.control);
  state.words[W.msixEnabled] = control & MSIX_CONTROL.enableBit ? 1 : 0;
  state.words[W.pinDisabled] = configRegister(words, CONFIG.command) & COMMAND.interruptDisableBit ? 1 : 0;
  for (const source of saved.pending) signalEventFd(sourceFd(state, source));
}

/** The writable bits of a saved configuration space. */
export function restoreConfigSpace(
  words: Int32Array,
  { initial, writable }: Pick<FunctionShape, 'initial' | 'writable'>,
  saved: readonly number[],
): void {
  for (let i = 0; i < CONFIG_WORDS; i++)
    words[F.config + i] = (initial[i]! & ~writable[i]!) | ((saved[i] ?? 0) & writable[i]!);
}

/** Eventfd of a source: 0, configuration changes; 1 + n, queue n. */
export function sourceFd({ words }: DeviceState, source: number): number {
  return source === 0 ? words[W.configFd]! : words[queueWord(source - 1, QUEUE_WORD.callFd)]!;
}

/** Words with the vectors of the queues. */
function queueVectors({ queueCount }: DeviceState): number[] {
  return Array.from({ length: queueCount }, (_, queue) => queueWord(queue, QUEUE_WORD.vector));
}

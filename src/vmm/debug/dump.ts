/**
 * Writes a core file of a guest: its RAM with holes for pages of zeroes, the registers of each vCPU, and what its page
 * tables map. The guest is paused while it is written, and goes on afterwards.
 */
import { writeSync } from 'node:fs';
import { buildCore, type CoreNote } from '../../gdb/core-file.ts';
import { MAX_SEGMENTS, NOTE_TYPE } from '../../gdb/core.layout.ts';
import { listMappings, type Mappings } from '../../gdb/mappings.ts';
import { PAGING } from '../../gdb/page-walk.ts';
import {
  VMCOREINFO,
  VMCOREINFO_PROBE_BYTES,
  VMCOREINFO_TEXT_AT,
  vmcoreinfoBytes,
} from '../../gdb/vmcoreinfo.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import { viewOf } from '../../binary/bytes.ts';
import { guestAddress, PAGE_BYTES } from '../../machine/address.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';
import { writeMemory } from '../../memory/memory-writer.ts';
import { usedPages } from '../../memory/touched-pages.ts';
import { VoltError } from '../../volt-error.ts';
import { VM_WORD } from '../bus/shared-state.ts';
import { pauseVcpus, resumeVcpus } from '../vcpu/control.ts';
import { phaseOf } from '../vcpu/sample.ts';
import type { VirtualMachine } from '../virtual-machine.ts';
import { qemuNote, threadNotes } from './core-notes.ts';
import { pagingOf, readBlocks } from './registers.ts';

/** What a dump wrote, and what it cost the guest. */
export interface DumpResult {
  readonly memoryBytes: number;
  readonly writtenBytes: number;
  /** Of memory in the file, by linear addresses. */
  readonly segments: number;
  /** Whether the guest's page tables had more to map than the file has segments for. */
  readonly truncated: boolean;
  /** Whether Linux's VMCOREINFO note was found, and is in the file. */
  readonly vmcoreinfo: boolean;
  readonly pausedMs: number;
  readonly totalMs: number;
}

export interface DumpTarget {
  /** An empty file, open for writing. Called once. */
  readonly open: () => Promise<OwnedFd>;
  /** Puts the file, which is written, in its place. */
  readonly commit: () => Promise<void>;
  /** Aborted: the guest goes on without a dump. */
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number, total: number) => void;
}

/** Pages of which the first bytes are looked at before the event loop runs. */
const PAGES_PER_TURN = 8192;

/** Resolves when the target has committed. Throws VoltError and SyscallError; the guest then goes on. */
export async function dumpGuest(vm: VirtualMachine, target: DumpTarget): Promise<DumpResult> {
  const startedAt = performance.now();
  // RAM stays mapped if the guest resets itself meanwhile.
  using _held = vm.hold();
  const ended = new AbortController();
  void vm.ended.then(() => ended.abort(hasEnded()));
  const signal = AbortSignal.any([target.signal, ended.signal]);
  try {
    using file = await target.open();
    // Linux writes it once, at its boot: it need not be looked for while the guest is paused.
    const vmcoreinfo = await findVmcoreinfo(vm.machine.memory, signal);
    const { pausedMs, ...written } = await whilePaused(vm, () =>
      writeCore(vm, file.fd, vmcoreinfo, { ...target, signal }),
    );
    signal.throwIfAborted();
    await target.commit();
    const totalMs = performance.now() - startedAt;
    return { ...written, vmcoreinfo: vmcoreinfo !== undefined, pausedMs, totalMs };
  } catch (error) {
    throw explain(error, signal);
  }
}

function hasEnded(): VoltError {
  return new VoltError('guest', 'Cannot dump the guest: it has ended meanwhile; dump it while it runs');
}

function explain(error: unknown, signal: AbortSignal): unknown {
  if (signal.reason instanceof VoltError) return signal.reason;
  if (!signal.aborted) return error;
  return new VoltError('usage', 'Cannot dump the guest: the dump was cancelled; the guest goes on');
}

async function whilePaused<T extends object>(
  vm: VirtualMachine,
  act: () => Promise<T>,
): Promise<T & { pausedMs: number }> {
  const isEnding = () => Atomics.load(vm.shared.words, VM_WORD.ending) !== 0;
  // A plug under way adds a vCPU, which would run.
  return vm.machine.hotplug.whenIdle(() =>
    vm.vcpuQueue.run(async () => {
      const running = vm.vcpus.filter(({ words }) => phaseOf(words) !== 'paused');
      const startedAt = performance.now();
      try {
        await pauseVcpus(running);
        if (isEnding()) throw hasEnded();
        const result = await act();
        return { ...result, pausedMs: performance.now() - startedAt };
      } finally {
        if (!isEnding()) await resumeVcpus(running);
      }
    }),
  );
}

async function writeCore(
  { machine: { memory }, vcpus }: VirtualMachine,
  fd: number,
  vmcoreinfo: Uint8Array | undefined,
  { signal, onProgress }: DumpTarget,
) {
  const blocks = vcpus.map(({ index, kvm }) => ({ index, ...readBlocks(kvm.fd) }));
  const mappings = mappingsOf(memory, blocks);
  const notes: CoreNote[] = blocks.flatMap((each) => threadNotes(each.index, each));
  // crash reads one kind of these notes: without the kernel's own it finds a relocated kernel by the vCPUs'.
  notes.push(...blocks.map((each) => qemuNote(each)));
  if (vmcoreinfo) notes.push({ name: VMCOREINFO, type: NOTE_TYPE.vmcoreinfo, data: vmcoreinfo });
  const { head, segments } = buildCore(memory.regions, mappings?.ranges, notes);
  writeFully(fd, head);
  const { bytesWritten } = await writeMemory(memory, fd, { at: head.length, signal, onProgress });
  return {
    memoryBytes: memory.bytes,
    writtenBytes: head.length + bytesWritten,
    segments,
    truncated: mappings?.isComplete === false,
  };
}

/** By the page tables of the first vCPU that has some; all of them share the kernel's. */
function mappingsOf(
  memory: GuestMemory,
  vcpus: readonly { readonly sregs: DataView }[],
): Mappings | undefined {
  const paging = vcpus.map(({ sregs }) => pagingOf(sregs)).find(({ cr0 }) => (cr0 & PAGING.pg) !== 0n);
  if (!paging) return undefined;
  return listMappings(paging, (physical) => readTable(memory, physical), MAX_SEGMENTS);
}

function readTable(memory: GuestMemory, physical: number): DataView | undefined {
  const isRam = memory.regions.some(
    ({ address, bytes }) => physical >= address && physical + PAGE_BYTES <= address + bytes,
  );
  return isRam ? viewOf(memory.read(guestAddress(physical), PAGE_BYTES)) : undefined;
}

/** The text of the note, which starts a page that the guest has touched. */
async function findVmcoreinfo(memory: GuestMemory, signal: AbortSignal): Promise<Uint8Array | undefined> {
  let sinceTurn = 0;
  for (const [start, bytes] of usedPages(memory)) {
    for (let offset = start; offset < start + bytes; offset += PAGE_BYTES) {
      if (++sinceTurn % PAGES_PER_TURN === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        signal.throwIfAborted();
      }
      const address = addressAt(memory, offset);
      const length = vmcoreinfoBytes(memory.read(address, VMCOREINFO_PROBE_BYTES));
      if (length !== undefined) {
        const page = memory.read(address, PAGE_BYTES);
        return page.subarray(VMCOREINFO_TEXT_AT, VMCOREINFO_TEXT_AT + length);
      }
    }
  }
  return undefined;
}

function addressAt({ regions }: GuestMemory, offset: number) {
  const region = regions.findLast((each) => each.offset <= offset)!;
  return guestAddress(region.address + (offset - region.offset));
}

function writeFully(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, done);
}

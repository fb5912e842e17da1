/**
 * Breakpoints of a guest: those of software are an INT3 in its RAM, others are in the debug registers of all vCPUs. A
 * software breakpoint at an address that is not mapped yet, such as one in Linux before it enables paging, takes a debug
 * register as well.
 */
import { guestAddress } from '../../machine/address.ts';
import { GUESTDBG } from '../../kvm/debug-abi.ts';
import type { GuestDebug } from '../../kvm/guest-debug.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { BreakpointKind } from '../../gdb/commands.ts';
import {
  DEBUG_REGISTERS,
  encodeDebugRegisters,
  splitRange,
  stopOf,
  type DebugStop,
} from '../../gdb/debug-registers.ts';

const INT3 = 0xcc;

/** An INT3 in RAM. */
interface Patch {
  readonly linear: bigint;
  readonly physical: number;
  /** The guest's byte in its place. */
  original: number;
}

interface RegisterStop extends DebugStop {
  /** As gdb asked for it. */
  readonly asked: { readonly type: BreakpointKind; readonly address: bigint; readonly bytes: number };
}

export class Breakpoints {
  readonly #memory: GuestMemory;
  readonly #patches: Patch[] = [];
  #stops: RegisterStop[] = [];

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /**
   * `physical` is where a software breakpoint goes; undefined: into a debug register. False if these are all in use.
   * Inserting one twice has no effect.
   */
  insert(type: BreakpointKind, address: bigint, bytes: number, physical: number | undefined): boolean {
    if (this.#patches.some(({ linear }) => type === 'software' && linear === address)) return true;
    if (this.#stops.some((stop) => isAsked(stop, type, address, bytes))) return true;
    if (type === 'software' && physical !== undefined) {
      // Two linear addresses may lead to one byte.
      const known = this.#patches.find((patch) => patch.physical === physical);
      const original = known?.original ?? this.#memory.read(guestAddress(physical), 1)[0]!;
      this.#patches.push({ linear: address, physical, original });
      if (!known) this.#memory.write(guestAddress(physical), Uint8Array.of(INT3));
      return true;
    }
    const asked = { type, address, bytes };
    const inRegister = type === 'software' ? 'hardware' : type;
    const pieces = inRegister === 'hardware' ? [{ address, bytes: 1 }] : splitRange(address, bytes);
    if (pieces.length === 0 || this.#stops.length + pieces.length > DEBUG_REGISTERS) return false;
    this.#stops.push(...pieces.map((piece) => ({ ...piece, type: inRegister, asked })));
    return true;
  }

  /** Removing one that is not there has no effect, as after a reset of the guest. */
  remove(type: BreakpointKind, address: bigint, bytes: number): void {
    if (type === 'software') this.#restore(({ linear }) => linear === address);
    this.#stops = this.#stops.filter((stop) => !isAsked(stop, type, address, bytes));
  }

  removeAll(): void {
    this.#restore(() => true);
    this.#stops = [];
  }

  /** Whether the vCPU is at one of ours: where an INT3 stopped it. */
  hasSoftware(pc: bigint): boolean {
    return this.#patches.some(({ linear }) => linear === pc);
  }

  /** The one that DR6 names. */
  inRegisters(dr6: bigint): RegisterStop['asked'] | undefined {
    return (stopOf(dr6, this.#stops) as RegisterStop | undefined)?.asked;
  }

  /** Puts the guest's bytes into what was read at `physical`. */
  readonly hide = (physical: number, data: Uint8Array): void => {
    for (const patch of this.#patchesIn(physical, data)) data[patch.physical - physical] = patch.original;
  };

  /** Keeps breakpoints in what is about to be written at `physical`. */
  readonly keep = (physical: number, data: Uint8Array): void => {
    for (const patch of this.#patchesIn(physical, data)) {
      patch.original = data[patch.physical - physical]!;
      data[patch.physical - physical] = INT3;
    }
  };

  /** What each vCPU is to stop at; a control of 0 if at nothing. */
  get guestDebug(): GuestDebug {
    const software = this.#patches.length > 0 ? GUESTDBG.useSoftwareBreakpoints : 0;
    const hardware = this.#stops.length > 0 ? GUESTDBG.useHardwareBreakpoints : 0;
    const control = software | hardware;
    return { control: control && control | GUESTDBG.enable, ...encodeDebugRegisters(this.#stops) };
  }

  #patchesIn(physical: number, data: Uint8Array): Patch[] {
    return this.#patches.filter((patch) => {
      return patch.physical >= physical && patch.physical < physical + data.length;
    });
  }

  #restore(which: (patch: Patch) => boolean): void {
    for (const patch of this.#patches.filter(which)) {
      this.#patches.splice(this.#patches.indexOf(patch), 1);
      if (this.#patches.some(({ physical }) => physical === patch.physical)) continue;
      const address = guestAddress(patch.physical);
      // The guest may have put other code there.
      if (this.#memory.read(address, 1)[0] === INT3)
        this.#memory.write(address, Uint8Array.of(patch.original));
    }
  }
}

function isAsked({ asked }: RegisterStop, type: BreakpointKind, address: bigint, bytes: number): boolean {
  return asked.type === type && asked.address === address && asked.bytes === bytes;
}

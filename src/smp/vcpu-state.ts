/**
 * The life of a vCPU as one pure state machine. (Intel SDM 3A §9.4, "Multiple-Processor Initialization")
 *
 * What happens to a paused vCPU is remembered and takes effect when it is resumed: pausing is the VMM's doing and
 * must not be visible to the guest.
 */

export const VCPU_STATES = ['created', 'running', 'halted', 'waiting-for-sipi', 'paused', 'stopped'] as const;
export type VcpuState = (typeof VCPU_STATES)[number];

/** States that a pause can interrupt. */
type GuestState = Exclude<VcpuState, 'paused' | 'stopped'>;

export type VcpuEvent =
  /** Volt lets it run: the BSP executes, an AP waits. */
  | { readonly kind: 'start' }
  /** HLT */
  | { readonly kind: 'halt' }
  | { readonly kind: 'init' }
  | { readonly kind: 'sipi'; readonly vector: number }
  | { readonly kind: 'nmi' }
  /** Fixed, lowest priority or ExtINT, with interrupts enabled. */
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume' }
  | { readonly kind: 'stop' };

export interface VcpuModel {
  readonly bsp: boolean;
  readonly state: VcpuState;
  /** What a paused vCPU goes back to. */
  readonly beneath: GuestState;
  /** Where the last SIPI sent it: vector × 0x1000; undefined before one, and after INIT. */
  readonly startAddress: number | undefined;
}

export function createVcpuModel(bsp: boolean): VcpuModel {
  return { bsp, state: 'created', beneath: 'created', startAddress: undefined };
}

/** The state after `event`. Events that a state has no use for leave it as it is. */
export function nextVcpu(vcpu: VcpuModel, event: VcpuEvent): VcpuModel {
  if (vcpu.state === 'stopped') return vcpu;
  switch (event.kind) {
    case 'stop':
      return { ...vcpu, state: 'stopped' };
    case 'pause':
      return vcpu.state === 'paused' ? vcpu : { ...vcpu, state: 'paused', beneath: vcpu.state };
    case 'resume':
      return vcpu.state === 'paused' ? { ...vcpu, state: vcpu.beneath } : vcpu;
    default:
      return vcpu.state === 'paused'
        ? latch(vcpu, nextInGuest({ ...vcpu, state: vcpu.beneath }, event))
        : nextInGuest(vcpu, event);
  }
}

type GuestEvent = Exclude<VcpuEvent, { kind: 'pause' | 'resume' | 'stop' }>;

function nextInGuest(vcpu: VcpuModel, event: GuestEvent): VcpuModel {
  switch (event.kind) {
    case 'start':
      return vcpu.state === 'created' ? { ...vcpu, state: vcpu.bsp ? 'running' : 'waiting-for-sipi' } : vcpu;
    case 'halt':
      return vcpu.state === 'running' ? { ...vcpu, state: 'halted' } : vcpu;
    case 'init':
      // INIT resets a CPU in any state and makes it wait; one that has not been started yet has nothing to reset.
      return vcpu.state === 'created'
        ? vcpu
        : { ...vcpu, state: 'waiting-for-sipi', startAddress: undefined };
    case 'sipi':
      return vcpu.state === 'waiting-for-sipi'
        ? { ...vcpu, state: 'running', startAddress: (event.vector & 0xff) * 0x1000 }
        : vcpu;
    case 'nmi':
    case 'interrupt':
      return vcpu.state === 'halted' ? { ...vcpu, state: 'running' } : vcpu;
  }
}

function latch(paused: VcpuModel, beneath: VcpuModel): VcpuModel {
  return {
    ...beneath,
    state: 'paused',
    beneath: beneath.state === 'paused' ? paused.beneath : (beneath.state as GuestState),
  };
}

/** KVM's MP states by name, in the order of their numbers. (KVM api.rst, KVM_GET_MP_STATE) */
export const MP_STATE_NAMES = [
  'runnable',
  'uninitialized',
  'init-received',
  'halted',
  'sipi-received',
] as const;
export type KnownMpState = (typeof MP_STATE_NAMES)[number];
export type MpStateName = KnownMpState | 'unknown';

export function mpStateName(state: number): MpStateName {
  return MP_STATE_NAMES[state] ?? 'unknown';
}

/** The number that KVM has for a state. */
export function mpStateNumber(name: KnownMpState): number {
  return MP_STATE_NAMES.indexOf(name);
}

/** What the worker of a vCPU is doing, as far as Volt itself knows. */
export type WorkerPhase = 'created' | 'running' | 'paused' | 'stopped' | 'parked';

/** The lifecycle state of a live vCPU: what Volt knows of its worker, completed by what KVM said last. */
export function reconcile(phase: WorkerPhase, mpState: MpStateName): VcpuState {
  if (phase === 'parked') return 'stopped';
  if (phase !== 'running') return phase;
  switch (mpState) {
    case 'halted':
      return 'halted';
    case 'uninitialized':
    case 'init-received':
      return 'waiting-for-sipi';
    default:
      return 'running';
  }
}

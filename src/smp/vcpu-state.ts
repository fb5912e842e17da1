/**
 * The lifecycle state of a vCPU, derived from what its worker does and from KVM's MP state.
 *
 * KVM's in-kernel local APIC carries out INIT and SIPI itself (Intel SDM 3A §9.4, "Multiple-Processor
 * Initialization"), so Volt keeps no start-up state machine of its own: it reads KVM's.
 */

export type VcpuState = 'created' | 'running' | 'halted' | 'waiting-for-sipi' | 'paused' | 'stopped';

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

/** KVM's number of an MP state. */
export function mpStateNumber(name: KnownMpState): number {
  return MP_STATE_NAMES.indexOf(name);
}

/** What the worker of a vCPU is doing. */
export type WorkerPhase = 'created' | 'running' | 'paused' | 'stopped' | 'parked';

/** The lifecycle state of a vCPU: its worker's phase, refined by the last known MP state while it runs. */
export function lifecycleState(phase: WorkerPhase, mpState: MpStateName): VcpuState {
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

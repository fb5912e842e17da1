/** Methods of the control protocol that one request and one answer are enough for. */
import type { Method } from './protocol.ts';

export const VOLT_METHODS = [
  'status',
  'vcpus',
  'devices',
  'regs',
  'ipi',
  'nmi',
  'start-ap',
  'affinity',
  'nice',
  'mp-state',
  'cpus',
  'powerdown',
  'timeline',
] as const satisfies readonly Method[];
export type VoltMethod = (typeof VOLT_METHODS)[number];

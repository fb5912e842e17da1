/**
 * What a write does to a PIT to which nothing has been written: between the device that reads the write and KVM, which
 * has the PIT.
 */
export type PitChange =
  | {
      readonly kind: 'control';
      readonly channel: number;
      /** 1: low byte, 2: high byte, 3: low, then high. */
      readonly access: number;
      readonly mode: number;
      readonly bcd: number;
    }
  | { readonly kind: 'count'; readonly channel: number; readonly count: number }
  | { readonly kind: 'gate'; readonly channel: 2; readonly gate: number; readonly speaker: boolean };

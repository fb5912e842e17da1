/**
 * The effect of the guest's first write to the PIT. chips/pit.ts decodes the write; kvm/pit.ts creates KVM's
 * PIT, which has not seen it, and applies the change. (Intel 8254 datasheet, "Control Word Format")
 */
export type PitChange =
  | {
      readonly kind: 'control';
      readonly channel: number;
      /** RW1–RW0. 1: low byte only, 2: high byte only, 3: low byte, then high byte. */
      readonly access: number;
      readonly mode: number;
      readonly bcd: number;
    }
  | { readonly kind: 'count'; readonly channel: number; readonly count: number }
  | { readonly kind: 'gate'; readonly channel: 2; readonly gate: number; readonly speaker: boolean };

/** What a device worker needs to serve metadata: plain data. */
export interface MmdsStart {
  /** From `createMmdsBuffer`. */
  readonly buffer: SharedArrayBuffer;
  /** A u32. */
  readonly address: number;
  readonly version: 'V1' | 'V2';
  readonly imdsCompat: boolean;
  /** Id of the microVM. */
  readonly id: string;
}

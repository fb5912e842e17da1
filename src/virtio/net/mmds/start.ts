/** What a device worker needs to serve metadata: plain data. */
export interface MmdsStart {
  /** From `createMmdsBuffer`. */
  readonly buffer: SharedArrayBuffer;
  /** A u32. */
  readonly address: number;
  readonly version: 'V1' | 'V2';
  readonly imdsCompat: boolean;
  /** Random, for tokens: a worker in the sandbox cannot use the runtime's random numbers. */
  readonly key: Uint8Array;
  /** Id of the microVM. */
  readonly id: string;
}

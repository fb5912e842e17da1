/** What a trace is made of. Moments are milliseconds since 1970; 0: it did not happen, or nobody saw it. Pure. */

export interface TracePhase {
  readonly name: string;
  readonly at: number;
}

export interface TraceCounter {
  readonly at: number;
  readonly name: string;
  readonly values: Readonly<Record<string, number>>;
}

export interface TracedVcpu {
  readonly index: number;
  readonly apicId: number;
  readonly isBsp: boolean;
  /** When its thread was about to enter KVM_RUN. */
  readonly enteredAt: number;
  /** Of an AP. */
  readonly initAt: number;
  readonly sipiAt: number;
  /** By TRACE_EVENT. */
  readonly exits: Float64Array;
}

export interface TraceInput {
  /** What came before counts as having happened then. */
  readonly from: number;
  readonly until: number;
  readonly phases: readonly TracePhase[];
  readonly firstConsoleByteAt: number;
  readonly vcpus: readonly TracedVcpu[];
  readonly counters: readonly TraceCounter[];
  /** Exits that were not recorded. */
  readonly lost: number;
  /** KVM's name of an exit reason. */
  readonly exitName: (reason: number) => string;
}

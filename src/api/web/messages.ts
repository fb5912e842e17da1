/** What `volt web` and its page tell each other, one JSON object per WebSocket message. */
import type { ControlEvent } from '../control/protocol.ts';
import type { ResultOf } from '../control/results.ts';

/** A guest of this host; `key` is its name, or its process id if it has none. */
export interface ListedGuest {
  readonly key: string;
  readonly name?: string;
  readonly pid?: number;
  /** Of `status`, or `stopped` for one that is defined, or `not answering`. */
  readonly state: string;
  readonly vcpus?: number;
  readonly maxVcpus?: number;
  readonly memoryBytes?: number;
  readonly uptimeMs?: number;
  readonly kernel?: string;
  /** Whether it is defined, and can be started by its name. */
  readonly isDefined: boolean;
}

/** One observation of the guest that a page watches. */
export interface GuestLook {
  readonly type: 'look';
  readonly guest: string;
  /** On a monotonic clock. */
  readonly atMs: number;
  readonly status: ResultOf<'status'>;
  readonly vcpus: ResultOf<'vcpus'>;
  readonly devices: ResultOf<'devices'>;
  readonly balloon?: ResultOf<'balloon'>;
}

export type ToPage =
  | { readonly type: 'guests'; readonly guests: readonly ListedGuest[] }
  | GuestLook
  | { readonly type: 'event'; readonly guest: string; readonly event: ControlEvent }
  /** The console that this page has attached to. */
  | { readonly type: 'output'; readonly guest: string; readonly data: string }
  | { readonly type: 'lost'; readonly guest: string; readonly bytes: number }
  | { readonly type: 'writer'; readonly guest: string; readonly mayWrite: boolean }
  | { readonly type: 'answer'; readonly id: number; readonly result: unknown }
  | { readonly type: 'refusal'; readonly id: number; readonly message: string };

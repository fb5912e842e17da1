/** Changes of a running device that the main thread asks its worker for. Plain data: they travel as JSON. */
import type { LimitChange } from './rate-limiter.ts';

export type DeviceChange =
  /** The limit of a disk or of persistent memory. */
  | { readonly kind: 'limits'; readonly limits: LimitChange }
  | { readonly kind: 'net-limits'; readonly receive: LimitChange; readonly transmit: LimitChange }
  /** Another file behind a disk. */
  | { readonly kind: 'disk-file'; readonly fd: number; readonly sectors: number }
  /** Seconds between two polls of a balloon's statistics. */
  | { readonly kind: 'balloon-polling'; readonly seconds: number };

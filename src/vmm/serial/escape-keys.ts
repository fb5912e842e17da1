/**
 * Ctrl-A on an interactive console, as in QEMU and screen: x leaves, h helps, s shows vCPUs, a sends a
 * Ctrl-A.
 */

export type EscapeAction = 'leave' | 'help' | 'show';

export interface EscapeResult {
  /** Bytes for the guest. */
  readonly forward: Uint8Array;
  readonly actions: readonly EscapeAction[];
  /** Whether the last byte was a Ctrl-A whose second key is still to come. */
  readonly pending: boolean;
}

const CTRL_A = 0x01;
const KEY = { x: 0x78, X: 0x58, h: 0x68, s: 0x73, S: 0x53, H: 0x48, question: 0x3f, a: 0x61 } as const;

/**
 * Filters typed bytes; `pending` is that of the previous call. Other keys go to the guest, with their Ctrl-A.
 */
export function filterEscapeKeys(input: Uint8Array, pending: boolean): EscapeResult {
  const forward: number[] = [];
  const actions: EscapeAction[] = [];
  let escaped = pending;
  for (const byte of input) {
    if (!escaped) {
      if (byte === CTRL_A) escaped = true;
      else forward.push(byte);
      continue;
    }
    escaped = false;
    if (byte === KEY.x || byte === KEY.X) actions.push('leave');
    else if (byte === KEY.h || byte === KEY.H || byte === KEY.question) actions.push('help');
    else if (byte === KEY.s || byte === KEY.S) actions.push('show');
    else if (byte === CTRL_A || byte === KEY.a) forward.push(CTRL_A);
    else forward.push(CTRL_A, byte);
  }
  return { forward: Uint8Array.from(forward), actions, pending: escaped };
}

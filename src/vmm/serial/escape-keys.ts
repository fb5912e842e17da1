/**
 * Ctrl-A on an interactive console, as in QEMU and screen: x leaves, h helps, s shows vCPUs, a sends a
 * Ctrl-A. On the console of a guest that runs elsewhere d detaches.
 */

export type EscapeAction = 'leave' | 'help' | 'show' | 'detach';

/** Second keys of the terminal that runs the guest. */
export const OWN_KEYS: Readonly<Record<string, EscapeAction>> = {
  x: 'leave',
  h: 'help',
  '?': 'help',
  s: 'show',
};
/** Those of `volt console`, from which no key ends the guest. */
export const ATTACHED_KEYS: Readonly<Record<string, EscapeAction>> = { d: 'detach', h: 'help', '?': 'help' };

export interface EscapeResult {
  /** Bytes for the guest. */
  readonly forward: Uint8Array;
  readonly actions: readonly EscapeAction[];
  /** Whether the last byte was a Ctrl-A whose second key is still to come. */
  readonly pending: boolean;
}

const CTRL_A = 0x01;
const KEY_A = 0x61;

/**
 * Filters typed bytes; `pending` is that of the previous call. Other keys go to the guest, with their Ctrl-A.
 */
export function filterEscapeKeys(
  input: Uint8Array,
  pending: boolean,
  keys: Readonly<Record<string, EscapeAction>> = OWN_KEYS,
): EscapeResult {
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
    const action = keys[String.fromCharCode(byte).toLowerCase()];
    if (action) actions.push(action);
    else if (byte === CTRL_A || byte === KEY_A) forward.push(CTRL_A);
    else forward.push(CTRL_A, byte);
  }
  return { forward: Uint8Array.from(forward), actions, pending: escaped };
}

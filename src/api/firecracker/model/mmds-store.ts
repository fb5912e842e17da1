/** The metadata that guests read: one JSON value of limited size. (Firecracker, docs/mmds/mmds-design.md) */
import { formatValue, isObject, type JsonValue } from '../../../json/value.ts';
import { ActionFault } from './fault.ts';

export class MmdsStore {
  readonly #limitBytes: number;
  readonly #onChange: (text: string) => void;
  /** undefined: never set, so that a patch is refused. */
  #value: JsonValue | undefined;

  /** `onChange` gets the value as text whenever it has changed. */
  constructor(limitBytes: number, onChange: (text: string) => void) {
    this.#limitBytes = limitBytes;
    this.#onChange = onChange;
  }

  put(value: JsonValue): void {
    this.#set(value);
  }

  /** Merges as JSON Merge Patch. (RFC 7396) */
  patch(value: JsonValue): void {
    if (this.#value === undefined)
      throw new ActionFault('MMDS error: The MMDS data store is not initialized.');
    this.#set(merge(this.#value, value));
  }

  get value(): JsonValue {
    return this.#value ?? null;
  }

  /** The answer to GET /mmds. */
  format(): string {
    return this.value === null ? '{}' : formatValue(this.value);
  }

  #set(value: JsonValue): void {
    const text = formatValue(value);
    if (Buffer.byteLength(text) > this.#limitBytes)
      throw new ActionFault("MMDS limit exceeded error: The MMDS patch request doesn't fit.", 413);
    this.#value = value;
    this.#onChange(text);
  }
}

function merge(target: JsonValue, patch: JsonValue): JsonValue {
  if (patch === null || typeof patch !== 'object' || !isObject(patch)) return patch;
  const merged = new Map(target !== null && typeof target === 'object' && isObject(target) ? target : []);
  for (const [key, value] of patch) {
    if (value === null) merged.delete(key);
    else merged.set(key, merge(merged.get(key) ?? null, value));
  }
  return merged;
}

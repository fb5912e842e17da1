/**
 * Exact request ids. A number beyond 2^53, or a fraction with many digits, changes when it is parsed into a
 * double, and the client could not match the answer to its request.
 */

/** A number in its original notation, which `JSON.stringify` writes unchanged. */
export interface RawNumber {
  readonly rawJSON: string;
}

/**
 * JSON.parse with source text access, which TypeScript's library does not declare yet. (TC39 proposal, stage
 * 4)
 */
interface SourceTextJson {
  parse(
    text: string,
    reviver: (this: unknown, key: string, value: unknown, context: { readonly source?: string }) => unknown,
  ): unknown;
  rawJSON(text: string): RawNumber;
}

/**
 * Returns `id`, parsed from the request `text`; a number that parsing may have changed, in its original
 * notation.
 */
export function exactId(
  id: string | number | null | undefined,
  text: string,
): string | number | RawNumber | null | undefined {
  if (typeof id !== 'number' || Number.isSafeInteger(id)) return id;
  const json = JSON as unknown as SourceTextJson;
  const written = new Map<unknown, string>();
  const root = json.parse(text, function (key, value, { source }) {
    if (key === 'id' && source !== undefined) written.set(this, source);
    return value;
  });
  const source = written.get(root);
  return source === undefined || source === String(id) ? id : json.rawJSON(source);
}

/** Schemas of the kinds of values in a configuration, with their error messages. */
import * as v from 'valibot';

const LONGEST_QUOTE = 200;

/** The value found, for an error: as JSON, truncated to a readable length. */
export function found(input: unknown, longest = LONGEST_QUOTE): string {
  if (input === undefined) return 'nothing';
  if (typeof input === 'string' && input.length > longest)
    return `${JSON.stringify(input.slice(0, longest))}…`;
  try {
    const text = JSON.stringify(input);
    return text.length > longest ? `${text.slice(0, longest)}…` : text;
  } catch {
    return 'a value that is nested too deeply to show';
  }
}

export function wholeNumber(min: number, max: number, reason = '') {
  const message = (issue: v.BaseIssue<unknown>) =>
    `${found(issue.input)} (expected a whole number from ${min} to ${max}${reason})`;
  return v.pipe(v.number(message), v.integer(message), v.minValue(min, message), v.maxValue(max, message));
}

export const text = v.pipe(
  v.string((issue) => `${found(issue.input)} (expected a string)`),
  v.nonEmpty(() => '"" (expected a string that is not empty)'),
  v.check(
    (value) => !value.includes('\0'),
    (issue) => `${found(issue.input)} (expected a string without a NUL character)`,
  ),
);
/** PATH_MAX without the final NUL. (Linux include/uapi/linux/limits.h) */
const MAX_PATH_BYTES = 4095;

export const filePath = v.pipe(
  text,
  v.check(
    (value) => Buffer.byteLength(value) <= MAX_PATH_BYTES,
    (issue) => `${found(issue.input)} (expected a path of at most ${MAX_PATH_BYTES} bytes)`,
  ),
);
export const flag = v.boolean((issue) => `${found(issue.input)} (expected true or false)`);

export function oneOf<const T extends readonly string[]>(values: T) {
  return v.picklist(values, (issue) => `${found(issue.input)} (expected ${values.join(', ')})`);
}

/** A section is an object; valibot alone would accept an array too. */
export const section = <const T extends v.ObjectEntries>(entries: T) =>
  v.pipe(
    v.custom<Record<string, unknown>>(isSection, (issue) => `${found(issue.input)} (expected an object)`),
    v.object(entries, (issue) => `${found(issue.input)} (expected a value)`),
  );

export function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A list of items. */
export function listOf<const T extends v.GenericSchema>(item: T) {
  return v.array(item, (issue) => `${found(issue.input)} (expected a list)`);
}

/** A key that may be missing or null, as in Firecracker's files: both mean the default. */
export function optional<const T extends v.GenericSchema>(schema: T): v.NullishSchema<T, () => undefined>;
export function optional<const T extends v.GenericSchema, const D extends v.InferInput<T>>(
  schema: T,
  value: D,
): v.NullishSchema<T, D>;
export function optional(schema: v.GenericSchema, value?: unknown) {
  return v.nullish(schema, value === undefined ? () => undefined : (value as never));
}

/** A number of queues, or `auto`: one for each vCPU, which config/devices.ts puts in its place. */
export function queueCount(max: number) {
  return v.union(
    [wholeNumber(1, max), v.literal('auto')],
    (issue) => `${found(issue.input)} (expected 1 to ${max}, or auto)`,
  );
}

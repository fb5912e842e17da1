/** Answers as JSON text without white space, with 64-bit integers. */

export type Output =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly Output[]
  | { readonly [key: string]: Output | undefined };

/** Keys keep their order; those that are undefined are left out. */
export function formatOutput(value: Output): string {
  if (typeof value === 'bigint') return String(value);
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${(value as readonly Output[]).map(formatOutput).join(',')}]`;
  const members = Object.entries(value).flatMap(([key, item]) =>
    item === undefined ? [] : [`${JSON.stringify(key)}:${formatOutput(item)}`],
  );
  return `{${members.join(',')}}`;
}

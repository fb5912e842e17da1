/** Inputs that are JSON, changed as the trees that they are. */
import type { Random } from '../../test/unit/support/random.ts';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Names of all members in a tree. */
export function keysOf(value: Json): string[] {
  if (typeof value !== 'object' || value === null) return [];
  if (Array.isArray(value)) return value.flatMap(keysOf);
  return Object.entries(value).flatMap(([key, inner]) => [key, ...keysOf(inner)]);
}

/** Changes one to three places of a tree; `trees` are whole ones, `keys` and `values` what they are made of. */
export function treeVariation(trees: readonly Json[], keys: readonly string[], values: readonly Json[]) {
  function varyNode(random: Random, value: Json): Json {
    const pickValue = () => structuredClone(random.pick([...values, ...trees] as [Json, ...Json[]]));
    if (typeof value !== 'object' || value === null) {
      if (typeof value === 'number' && random.int(0, 1)) return value + random.int(-2, 2);
      return random.int(0, 7) === 0 ? pickValue() : random.pick(values as [Json, ...Json[]]);
    }
    if (Array.isArray(value)) {
      const at = random.int(0, Math.max(0, value.length - 1));
      if (value.length === 0 || random.int(0, 4) === 0)
        return [...value, value[at] ?? pickValue()].slice(0, 80);
      if (random.int(0, 4) === 0) return value.toSpliced(at, 1);
      return value.with(at, varyNode(random, value[at]!));
    }
    const entries = Object.entries(value);
    if (entries.length === 0 || random.int(0, 3) === 0) {
      const donor = random.pick(trees as [Json, ...Json[]]) as Record<string, Json>;
      if (random.int(0, 1)) return { ...value, ...structuredClone(donor) };
      return { ...value, [random.pick(keys as [string, ...string[]])]: pickValue() };
    }
    const [key, inner] = entries[random.int(0, entries.length - 1)]!;
    if (random.int(0, 8) === 0) return Object.fromEntries(entries.filter(([name]) => name !== key));
    return { ...value, [key]: varyNode(random, inner) };
  }

  return (random: Random, input: Uint8Array): Uint8Array => {
    let tree = parsedJson(input) ?? structuredClone(random.pick(trees as [Json, ...Json[]]));
    for (let i = random.int(1, 3); i > 0; i--) tree = varyNode(random, tree);
    return Buffer.from(JSON.stringify(tree) ?? 'null');
  };
}

/** undefined: it is no JSON. */
export function parsedJson(input: Uint8Array): Json | undefined {
  try {
    return JSON.parse(Buffer.from(input).toString('utf8')) as Json;
  } catch {
    return undefined;
  }
}

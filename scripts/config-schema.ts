/**
 * Writes the JSON Schema of configuration files, from the schemas that check them, where `volt config-schema` expects it.
 * Usage: npx bun scripts/config-schema.ts
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { toJsonSchema, type JsonSchema } from '@valibot/to-json-schema';
import type * as v from 'valibot';
import { SECTIONS } from '../src/config/config.ts';
import { ALL_SPECS } from '../src/virtio/host/specs.ts';

const SCHEMA_PATH = resolve(import.meta.dir, '../build/config-schema.txt');

const NULL = { type: 'null' } as const satisfies JsonSchema;

export function buildConfigSchema(): JsonSchema {
  const own = Object.entries(SECTIONS).map(([name, entries]) => [name, orNull(sectionOf(entries))] as const);
  const devices = ALL_SPECS.map(({ section, isList, entries, flag }) => {
    const item = sectionOf(entries());
    const schema: JsonSchema = isList ? { type: 'array', items: item } : item;
    return [section, orNull({ description: flag.help, ...schema })] as const;
  });
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'A guest of Volt',
    description: 'Configuration for volt run --config, volt create and /etc/volt/NAME.json',
    type: 'object',
    properties: { $schema: { type: 'string' }, ...Object.fromEntries([...own, ...devices]) },
  };
}

/** A key may be null, which means its default. */
function orNull(schema: JsonSchema): JsonSchema {
  return { anyOf: [schema, NULL] };
}

function sectionOf(entries: v.ObjectEntries): JsonSchema {
  const known = Object.entries(entries).map(
    ([key, schema]) => [key, convert(schema as v.GenericSchema)] as const,
  );
  const required = Object.entries(entries)
    .filter(([, { type }]) => !type.startsWith('nullish') && !type.startsWith('optional'))
    .map(([key]) => key);
  return {
    type: 'object',
    properties: Object.fromEntries(known),
    ...(required.length > 0 ? { required } : {}),
    additionalProperties: false,
  };
}

/** The input of a schema; what JSON Schema cannot say, Volt checks when it reads the file. */
function convert(schema: v.GenericSchema): JsonSchema {
  const { $schema: _, ...converted } = toJsonSchema(schema, {
    typeMode: 'input',
    errorMode: 'ignore',
    // JSON Schema has no flags for patterns.
    overrideAction: ({ valibotAction, jsonSchema }) =>
      isCaseless(valibotAction) ? { ...jsonSchema, pattern: undefined! } : undefined,
  });
  return converted;
}

function isCaseless(action: unknown): boolean {
  const { requirement } = action as { readonly requirement?: unknown };
  return requirement instanceof RegExp && requirement.flags.includes('i');
}

export const configSchemaText = () => `${JSON.stringify(buildConfigSchema(), null, 2)}\n`;

if (import.meta.main) {
  mkdirSync(dirname(SCHEMA_PATH), { recursive: true });
  writeFileSync(SCHEMA_PATH, configSchemaText());
  console.error(`wrote ${SCHEMA_PATH}`);
}

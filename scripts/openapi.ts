/** Writes docs/volt-api.json: the OpenAPI description of `/volt/…`, from the schemas of the control protocol. */
import type * as v from 'valibot';
import { METHODS } from '../src/api/control/protocol.ts';
import { VOLT_METHODS } from '../src/api/control/volt-methods.ts';
import { SECTIONS } from '../src/config/config.ts';

type Schema = v.GenericSchema & {
  readonly pipe?: readonly (v.GenericSchema & { readonly requirement?: unknown })[];
  readonly entries?: Readonly<Record<string, Schema>>;
  readonly options?: readonly unknown[];
  readonly wrapped?: Schema;
  readonly item?: Schema;
  readonly literal?: unknown;
};

/** What a schema accepts, as JSON Schema. Conditions in code of their own are left out: the server checks them. */
function toJsonSchema(schema: Schema): Record<string, unknown> {
  return Object.assign({}, ...(schema.pipe ?? []).map(toLimit), toType(schema)) as Record<string, unknown>;
}

function toLimit({ type, requirement }: { readonly type: string; readonly requirement?: unknown }) {
  switch (type) {
    case 'integer':
      return { type: 'integer' };
    case 'min_value':
      return { minimum: requirement };
    case 'max_value':
      return { maximum: requirement };
    case 'max_length':
      return { maxItems: requirement };
    case 'non_empty':
      return { minItems: 1 };
    default:
      return {};
  }
}

function toType(schema: Schema): Record<string, unknown> {
  const isInteger = schema.pipe?.some(({ type }) => type === 'integer');
  switch (schema.type as string) {
    case 'strict_object': {
      const entries = Object.entries(schema.entries!);
      const needed = entries.filter(([, { type }]) => !OPTIONAL.has(type as string)).map(([name]) => name);
      return {
        type: 'object',
        properties: Object.fromEntries(entries.map(([name, entry]) => [name, toJsonSchema(entry)])),
        ...(needed.length > 0 ? { required: needed } : {}),
        additionalProperties: false,
      };
    }
    case 'exact_optional':
    case 'optional':
    case 'nullish':
      return toJsonSchema(schema.wrapped!);
    case 'array':
      return { type: 'array', items: toJsonSchema(schema.item!) };
    case 'picklist':
      return { enum: schema.options };
    case 'literal':
      return { const: schema.literal };
    case 'union':
      return { anyOf: (schema.options as readonly Schema[]).map(toJsonSchema) };
    case 'number':
      return { type: isInteger ? 'integer' : 'number' };
    case 'boolean':
    case 'string':
      return { type: schema.type };
    default:
      return {};
  }
}

const OPTIONAL: ReadonlySet<string> = new Set(['exact_optional', 'optional', 'nullish']);

export function describeApi(): object {
  const answers = (ok: string, description: string) => ({
    [ok]: { description },
    '400': {
      description: 'Refused',
      content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
    },
  });
  const bodyOf = (schema: object) => ({ content: { 'application/json': { schema } } });
  const paths = VOLT_METHODS.map((method) => [
    `/volt/${method}`,
    {
      put: {
        summary: `The method ${method} of the control protocol (docs/control.md)`,
        requestBody: bodyOf(toJsonSchema(METHODS[method] as unknown as Schema)),
        responses: answers('200', 'The result of the method'),
      },
    },
  ]);
  const volt = Object.fromEntries(
    Object.entries({ ...SECTIONS.volt, vcpu_count: SECTIONS['machine-config'].vcpu_count }).map(
      ([name, schema]) => [name, toJsonSchema(schema as unknown as Schema)],
    ),
  );
  return {
    openapi: '3.1.0',
    info: { title: "Volt's requests beside Firecracker's API", version: '1' },
    paths: {
      '/volt/config': {
        put: {
          summary:
            'Before the start: keys of the section volt of a configuration file, and vcpu_count above 32',
          requestBody: bodyOf({ type: 'object', properties: volt }),
          responses: answers('204', 'Taken'),
        },
      },
      ...Object.fromEntries(paths),
    },
    components: {
      schemas: { Error: { type: 'object', properties: { fault_message: { type: 'string' } } } },
    },
  };
}

export const API_FILE = new URL('../docs/volt-api.json', import.meta.url).pathname;
const formatApi = () => `${JSON.stringify(describeApi(), null, 2)}\n`;

if (import.meta.main) await Bun.write(API_FILE, formatApi());

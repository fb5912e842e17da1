/** The JSON Schema of configuration files, for editors. */
import { describe, expect, test } from 'bun:test';
import { buildConfigSchema } from '../../../scripts/config-schema.ts';
import { SECTIONS } from '../../../src/config/config.ts';
import { ALL_SPECS } from '../../../src/virtio/host/specs.ts';

interface Section {
  readonly anyOf: readonly {
    readonly type: string;
    readonly properties?: Readonly<Record<string, object>>;
    readonly required?: readonly string[];
    readonly items?: {
      readonly properties: Readonly<Record<string, object>>;
      readonly required?: readonly string[];
    };
  }[];
}

const properties = buildConfigSchema().properties as unknown as Readonly<Record<string, Section>>;
const keysOf = (name: string) => {
  const [section] = properties[name]!.anyOf;
  return Object.keys((section!.items ?? section!).properties!);
};

describe('the schema', () => {
  test.each(Object.entries(SECTIONS))('has every key of %s', (name, entries) => {
    expect(keysOf(name)).toEqual(Object.keys(entries));
  });

  test.each(ALL_SPECS.map((spec) => [spec.section, spec] as const))(
    'has every key of %s',
    (name, { entries, isList }) => {
      expect(keysOf(name)).toEqual(Object.keys(entries()));
      expect(properties[name]!.anyOf[0]!.type).toBe(isList ? 'array' : 'object');
    },
  );

  test('knows what is needed, ranges, choices and defaults', () => {
    const machine = properties['machine-config']!.anyOf[0]!.properties!;
    const volt = properties['volt']!.anyOf[0]!.properties!;

    expect(properties['vsock']!.anyOf[0]!.required).toEqual(['uds_path']);
    expect(machine['vcpu_count']).toMatchObject({ type: 'integer', minimum: 1, maximum: 4096 });
    expect(volt['reboot']).toMatchObject({ default: 'restart' });
    expect(JSON.stringify(volt['reboot'])).toContain('["restart","always","exit"]');
  });

  test('does not refuse addresses in upper case, which Volt takes', () => {
    expect(JSON.stringify(properties['network-interfaces'])).not.toContain('[0-9a-f]');
  });
});

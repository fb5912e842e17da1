import { expect, test } from 'bun:test';
import { API_FILE, describeApi } from '../../../scripts/openapi.ts';

test('docs/volt-api.json is what npm run openapi writes', async () => {
  const written: unknown = await Bun.file(API_FILE).json();

  expect(written).toEqual(JSON.parse(JSON.stringify(describeApi())));
});

test('a method is described by its schema', () => {
  const { paths } = describeApi() as { paths: Record<string, unknown> };

  expect(JSON.stringify(paths['/volt/start-ap'])).toContain(
    '"vector":{"type":"integer","minimum":0,"maximum":255}},"required":["vcpu","vector"],"additionalProperties":false',
  );
});

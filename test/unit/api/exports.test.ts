/** What `src/api/index.ts` exports is Volt's library: each name says in its own words what it is. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { expect, test } from 'bun:test';

const INDEX = resolve(import.meta.dir, '../../../src/api/index.ts');

interface Export {
  readonly name: string;
  readonly file: string;
}

/** Follows `export { … } from` and `export * from`. */
function exportsOf(file: string): Export[] {
  const text = readFileSync(file, 'utf8');
  const at = (path: string) => resolve(dirname(file), path);
  const named = [...text.matchAll(/^export (?:type )?\{([^}]*)\} from '([^']+)'/gm)].flatMap(
    ([, names, path]) =>
      names!
        .split(',')
        .map((name) => name.replace(/\btype\b/, '').trim())
        .filter((name) => name !== '')
        .map((name) => ({ name: name.split(' as ')[0]!.trim(), file: at(path!) })),
  );
  const starred = [...text.matchAll(/^export (?:type )?\* from '([^']+)'/gm)].flatMap(([, path]) =>
    exportsOf(at(path!)),
  );
  const own = [
    ...text.matchAll(/^export (?:async |abstract )?(?:function|const|class|interface|type) (\w+)/gm),
  ];
  return [...named, ...starred, ...own.map(([, name]) => ({ name: name!, file }))];
}

/** Where a name is declared, following re-exports. */
function isDocumented({ name, file }: Export): boolean {
  const text = readFileSync(file, 'utf8');
  const declaration = new RegExp(
    `(^.*\\n)export (?:async )?(?:function\\*?|const|class|interface|type) ${name}\\b`,
    'm',
  );
  const found = declaration.exec(text);
  if (found) return found[1]!.trimEnd().endsWith('*/');
  return exportsOf(file).some((other) => other.name === name && other.file !== file && isDocumented(other));
}

test('every export has a doc comment', () => {
  const undocumented = exportsOf(INDEX).filter((each) => !isDocumented(each));
  expect(undocumented.map(({ name, file }) => `${name} in ${file.slice(file.indexOf('src/'))}`)).toEqual([]);
});

test('there are exports to look at', () => {
  const names = exportsOf(INDEX).map(({ name }) => name);
  expect(names).toContain('VirtualMachine');
  expect(names).toContain('VmEvent');
  expect(names).toContain('connectControl');
});

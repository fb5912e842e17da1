/** Builds the page of `volt web` into one HTML file. Usage: npx bun scripts/build-web.ts */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

const root = resolve(import.meta.dir, '..');

/** Where src/api/web/page.ts expects it. */
export const PAGE = resolve(root, 'build/web/page.htm');

/** Bundles script and styles; throws with the bundler's messages. */
export async function buildWeb(outfile: string = PAGE): Promise<void> {
  const { outputs } = await Bun.build({
    entrypoints: [resolve(root, 'web/main.tsx')],
    target: 'browser',
    minify: true,
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  const text = async (kind: RegExp) => (await outputs.find(({ path }) => kind.test(path))!.text()).trim();
  const script = (await text(/\.js$/)).replaceAll('</script', '<\\/script');
  const style = (await text(/\.css$/)).replaceAll('</style', '<\\/style');
  mkdirSync(dirname(outfile), { recursive: true });
  writeFileSync(outfile, htmlOf(script, style));
}

function htmlOf(script: string, style: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Volt</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<script type="module">${script}</script>
</body>
</html>
`;
}

if (import.meta.main) {
  await buildWeb();
  console.error(`built ${PAGE}`);
}

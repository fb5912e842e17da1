/** The site of Volt's documents: the Markdown of the repository as it is. `npm run site` builds it into build/site. */
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { defineConfig } from 'vitepress';

/** What is copied here, below the packages of the site, where its bundler finds them. */
const SOURCES = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'docs', 'src', 'kernels/smp'];
const KINDS = new Set(['.md', '.svg', '.png']);
const root = resolve(import.meta.dirname, '../..');
const pages = resolve(import.meta.dirname, '../pages');
rmSync(pages, { recursive: true, force: true });
for (const source of SOURCES) {
  const names =
    extname(source) === '.md' ? [''] : readdirSync(join(root, source), { recursive: true, encoding: 'utf8' });
  for (const name of names) {
    const path = join(source, name);
    if (KINDS.has(extname(path))) cpSync(join(root, path), join(pages, path));
  }
}

const page = (text: string, path: string) => ({ text, link: `/${path}` });

export default defineConfig({
  title: 'Volt',
  description: 'A virtual machine monitor for x86-64 Linux hosts with SMP at its heart',
  lang: 'en',
  srcDir: 'pages',
  outDir: '../build/site',
  cacheDir: '../.cache/site',
  rewrites: { 'README.md': 'index.md' },
  cleanUrls: true,
  // Words such as <dir> are text.
  markdown: { html: false },
  // Sources and data that documents link to are in the repository, not on the site.
  ignoreDeadLinks: [/\.(ts|json|h|c|S|sh)$/, /^(\.\/|\.\.\/)*(examples|src\/\w+|src\/virtio\/\w+\/?)$/],
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      page('Names', 'docs/names'),
      page('Page', 'docs/web'),
      page('Bench', 'docs/bench/report'),
      page('Changes', 'CHANGELOG'),
    ],
    sidebar: [
      {
        text: 'Use',
        items: [
          page('Start', ''),
          page('Guests by name', 'docs/names'),
          page('The page of a host', 'docs/web'),
          page('Guests as services', 'docs/service'),
          page('Control socket', 'docs/control'),
          page('Snapshots', 'docs/snapshots'),
          page('Warm start', 'docs/warm-start'),
          page('Many hosts', 'docs/fleet'),
          page('Metrics', 'docs/metrics'),
        ],
      },
      {
        text: 'Machines',
        items: [
          page('Kernels', 'docs/kernels'),
          page('Disks', 'docs/disks'),
          page('Networks', 'docs/network'),
          page('PCI', 'docs/pci'),
          page('Shared folders', 'docs/shares'),
        ],
      },
      {
        text: 'Programs',
        items: [
          page('Library', 'docs/library'),
          page("Firecracker's API", 'docs/firecracker'),
          page('Memory handlers', 'docs/memory-handlers'),
        ],
      },
      {
        text: 'Inside',
        items: [
          page('Security', 'SECURITY'),
          page('Debugging', 'docs/debugging'),
          page('Performance', 'docs/performance'),
          page('Bench', 'docs/bench/report'),
          page('Fuzzing', 'docs/fuzzing'),
          page('Source map', 'src/README'),
          page('The embedded kernel', 'kernels/smp/README'),
          page('Contributing', 'CONTRIBUTING'),
          page('Changes', 'CHANGELOG'),
        ],
      },
    ],
  },
});

/**
 * Checks the links of the documents: files and headings that they name must be there. Links to other hosts are not
 * followed. Usage: npx bun scripts/check-links.ts
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';

/** One line for each broken link of the Markdown files of `root`. */
export function checkLinks(root: string): string[] {
  return documents(root).flatMap((file) => {
    const path = resolve(root, file);
    return linksOf(readFileSync(path, 'utf8')).flatMap((link) => {
      const problem = problemOf(path, link);
      return problem === undefined ? [] : [`${file}: ${link}: ${problem}`];
    });
  });
}

function documents(root: string): string[] {
  const { stdout } = Bun.spawnSync(['git', 'ls-files', '-co', '--exclude-standard', '*.md'], { cwd: root });
  return stdout
    .toString()
    .split('\n')
    .filter((file) => file !== '' && existsSync(resolve(root, file)));
}

/** Targets of inline links and images, outside of code. */
export function linksOf(markdown: string): string[] {
  const text = markdown.replace(/^```[^]*?^```/gm, '').replace(/(`+)[^]*?\1/g, 'code');
  return [...text.matchAll(/\]\(([^()\s]+)(?:\s+"[^"]*")?\)/g)].map((match) => match[1]!);
}

function problemOf(from: string, link: string): string | undefined {
  if (/^[a-z]+:/i.test(link)) return undefined;
  const [path = '', heading] = link.split('#');
  const target = path === '' ? from : resolve(dirname(from), decodeURIComponent(path));
  if (!existsSync(target)) return 'there is no such file';
  if (heading === undefined) return undefined;
  if (!target.endsWith('.md') || !statSync(target).isFile()) return undefined;
  const known = headingsOf(readFileSync(target, 'utf8'));
  return known.has(heading) ? undefined : `${relative(dirname(from), target)} has no such heading`;
}

/** Anchors of headings, as GitHub makes them. */
export function headingsOf(markdown: string): Set<string> {
  const text = markdown.replace(/^```[^]*?^```/gm, '');
  const anchors = new Set<string>();
  for (const [, title = ''] of text.matchAll(/^#{1,6} +(.*)$/gm)) {
    const anchor = title
      .trim()
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-');
    let unique = anchor;
    for (let i = 1; anchors.has(unique); i++) unique = `${anchor}-${i}`;
    anchors.add(unique);
  }
  return anchors;
}

if (import.meta.main) {
  const problems = checkLinks(resolve(import.meta.dir, '..'));
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exit(1);
  console.error('links: every file and heading that a document links to is there');
}

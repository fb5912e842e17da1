/** The check of the documents' links. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { checkLinks, headingsOf, linksOf } from '../../../scripts/check-links.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';

setDefaultTimeout(60_000);

describe('links', () => {
  test('are those of text, not of code', () => {
    const text = 'A [b](c.md#d) ![e](f.png)\n```\n[g](h)\n```\nand `[i](j)` [k](https://l)';

    expect(linksOf(text)).toEqual(['c.md#d', 'f.png', 'https://l']);
  });

  test('go to headings by the anchors that GitHub makes', () => {
    const text = '# Guests by name\n## `volt ctl`, now\n```\n# no heading\n```\n## Same\n## Same';

    expect([...headingsOf(text)]).toEqual(['guests-by-name', 'volt-ctl-now', 'same', 'same-1']);
  });

  test('that lead nowhere are found', async () => {
    using folder = new TemporaryFolder();
    await folder.write(
      'a.md',
      '# Here\n[x](b.md) [y](#here) [z](#there) [v](a.md#here) [w](https://example.com)',
    );
    Bun.spawnSync(['git', 'init', '-q'], { cwd: folder.path });

    expect(checkLinks(folder.path)).toEqual([
      'a.md: b.md: there is no such file',
      'a.md: #there: a.md has no such heading',
    ]);
  });
});

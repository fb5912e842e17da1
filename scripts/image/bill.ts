/** The bill of materials of an image: that of the executable, and the Debian packages that files were taken from. */
import { billOfMaterials } from '../package/sbom.ts';
import type { ReleaseContext } from '../package/context.ts';
import type { SystemFile } from './files.ts';

interface Bill {
  readonly components: readonly unknown[];
  readonly [key: string]: unknown;
}

export function imageBill(context: ReleaseContext, taken: readonly SystemFile[]): string {
  const bill = JSON.parse(billOfMaterials(context)) as Bill;
  const packages = [...new Set(taken.map((file) => file.package))].sort();
  const added = packages.map((name) => {
    const files = taken.filter((file) => file.package === name);
    const { version } = files[0]!;
    return {
      'bom-ref': `deb:${name}@${version}`,
      type: name.startsWith('lib') ? 'library' : 'application',
      name,
      version,
      scope: 'required',
      purl: `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=amd64`,
      components: files.map(({ path, sha256 }) => ({
        'bom-ref': `file:${path}`,
        type: 'file',
        name: path,
        hashes: [{ alg: 'SHA-256', content: sha256 }],
      })),
    };
  });
  return `${JSON.stringify({ ...bill, components: [...bill.components, ...added] }, null, 2)}\n`;
}

/** The file of `--config-file`, section by section. (Firecracker, VmmConfig in src/vmm/src/resources.rs) */
import { JsonFault } from '../../../json/reader.ts';
import {
  list,
  option,
  parseShape,
  path,
  struct,
  withDefault,
  type Shape,
  type ValueOf,
} from '../../../json/shapes.ts';
import * as B from '../request/bodies.ts';
import { CpuTemplate, type CpuTemplateBody } from '../request/cpu-template.ts';

/** The path of a file with a template, or the template itself. */
const TemplateOrPath: Shape<string | CpuTemplateBody> = {
  read(reader) {
    try {
      return reader.peek() === 0x22 ? path.read(reader) : CpuTemplate.read(reader);
    } catch (error) {
      if (!(error instanceof JsonFault)) throw error;
      throw new JsonFault('data did not match any variant of untagged enum CustomCpuTemplateOrPath');
    }
  },
};

const ConfigFile = struct(
  'VmmConfig',
  {
    balloon: option(B.Balloon),
    drives: list(B.Drive),
    'boot-source': B.BootSource,
    'cpu-config': option(TemplateOrPath),
    logger: option(B.Logger),
    'machine-config': option(B.MachineConfig),
    metrics: option(B.Metrics),
    'mmds-config': option(B.MmdsConfig),
    'network-interfaces': withDefault(list(B.NetworkInterface), () => []),
    vsock: option(B.Vsock),
    entropy: option(B.Entropy),
    pmem: withDefault(list(B.Pmem), () => []),
    'memory-hotplug': option(B.MemoryHotplug),
  },
  { open: true },
);
export type ConfigFileBody = ValueOf<typeof ConfigFile>;

/** Throws JsonFault. */
export function parseConfigFile(bytes: Uint8Array): ConfigFileBody {
  return parseShape(bytes, ConfigFile);
}

/** Throws JsonFault. */
export function parseTemplate(bytes: Uint8Array): CpuTemplateBody {
  return parseShape(bytes, CpuTemplate);
}

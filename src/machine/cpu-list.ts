/** Bits of glibc's cpu_set_t. (CPU_SETSIZE) */
export const MAX_HOST_CPUS = 1024;

/**
 * Parses Linux's CPU list format: `0-2,5` → [0, 1, 2, 5], ascending. Returns undefined for other text and for
 * CPUs from MAX_HOST_CPUS on. (Linux Documentation/admin-guide/kernel-parameters.rst, "cpu lists")
 */
export function parseCpuList(text: string): number[] | undefined {
  const cpus = new Set<number>();
  for (const part of text.split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim());
    if (!match) return undefined;
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (last < first || last >= MAX_HOST_CPUS) return undefined;
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return [...cpus].sort((a, b) => a - b);
}

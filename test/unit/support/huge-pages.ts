/** hugetlb pages of the host, which only its administrator can reserve. */
import { readFileSync } from 'node:fs';

const FILE = '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages';
const NEEDED = 32;

function freePages(): number {
  try {
    return Number(readFileSync(FILE, 'utf8'));
  } catch {
    return 0;
  }
}

/** For the name of a test: what the host lacks for two guests of 32 MiB; empty if it lacks nothing. */
export const LACKS_HUGE_PAGES = freePages() < NEEDED ? ` (needs ${NEEDED} free hugetlb pages)` : '';

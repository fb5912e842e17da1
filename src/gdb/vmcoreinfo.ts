/**
 * The note VMCOREINFO, which Linux with crash support keeps at the start of a page of its memory from its boot on: what
 * crash needs to know of a kernel. Pure. (Linux kernel/vmcore_info.c; admin-guide/kdump/vmcoreinfo.rst)
 */
import { getAscii, viewOf } from '../binary/bytes.ts';
import { NOTE, NOTE_TYPE } from './core.layout.ts';

export const VMCOREINFO = 'VMCOREINFO';
const NAME_BYTES = VMCOREINFO.length + 1;
/** Where the text starts: the name is padded to four bytes. */
const TEXT_AT = NOTE.size + 12;
const FIRST_KEY = 'OSRELEASE=';
/** Bytes of a page that `vmcoreinfoBytes` looks at. */
export const VMCOREINFO_PROBE_BYTES = TEXT_AT + FIRST_KEY.length;
const MAX_TEXT_BYTES = 4096 - TEXT_AT;

/** Length of the text behind the note's header; undefined if the page does not start with such a note. */
export function vmcoreinfoBytes(page: Uint8Array): number | undefined {
  const view = viewOf(page);
  if (view.getUint32(NOTE.namesz, true) !== NAME_BYTES) return undefined;
  if (view.getUint32(NOTE.type, true) !== NOTE_TYPE.vmcoreinfo) return undefined;
  const bytes = view.getUint32(NOTE.descsz, true);
  if (bytes < FIRST_KEY.length || bytes > MAX_TEXT_BYTES) return undefined;
  const isNote =
    getAscii(page, NOTE.size, NAME_BYTES) === `${VMCOREINFO}\0` &&
    getAscii(page, TEXT_AT, FIRST_KEY.length) === FIRST_KEY;
  return isNote ? bytes : undefined;
}

export { TEXT_AT as VMCOREINFO_TEXT_AT };

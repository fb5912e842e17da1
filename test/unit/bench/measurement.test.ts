import { expect, test } from 'bun:test';
import { compareFirst, measureInTurns } from '../../../bench/measurement.ts';
import { replaceSections, toMarkdown, type Section } from '../../../bench/report.ts';

function subject(name: string, calls: string[], value: number) {
  const run = () => {
    calls.push(name);
    return Promise.resolve(value);
  };
  return { name, run };
}

test('subjects run once for warmth, then in turns, each round the other way round', async () => {
  const calls: string[] = [];

  await measureInTurns([subject('a', calls, 1), subject('b', calls, 2)], 3);

  expect(calls.join('')).toBe('ab' + 'ab' + 'ba' + 'ab');
});

test('a peer that cannot run is left out with the reason; Volt that cannot run is an error', async () => {
  const broken = { name: 'broken', run: () => Promise.reject(new Error('no such machine')) };
  const works = subject('works', [], 1);

  const { bySubject, skipped } = await measureInTurns([works, broken], 2);

  expect([...bySubject]).toEqual([['works', [1, 1]]]);
  expect(skipped).toEqual(['broken: no such machine']);
  await expect(measureInTurns([broken, works], 2)).rejects.toThrow('no such machine');
});

test('the page tells for each aim whether it was met, and why not', async () => {
  const samples = await measureInTurns([subject('Volt', [], 3), subject('Peer', [], 4)], 2);
  const comparisons = compareFirst(
    samples,
    'time',
    'ms',
    (ms) => ms,
    () => 0.5,
  );
  const figures = [{ what: 'load', unit: 'ms', value: 4, aim: 5 }];

  const page = toMarkdown({
    date: '2026-01-02 03:04',
    quick: false,
    host: { cpu: 'CPU', cpus: 2, memoryGib: 4, kernel: '6.1', load: [0, 1] },
    versions: [{ name: 'Volt', version: '1' }],
    missing: ['Other: not here'],
    sections: [
      {
        date: '2026-01-02 03:04',
        measurement: { id: 'id', title: 'Title', method: 'Method.', whenMissed: 'Because.' },
        findings: { comparisons, figures, skipped: ['more: reason'] },
      },
    ],
  });

  expect(page).toContain(
    '| time | Peer | 3.00 (3.00–3.00) ms | 4.00 (4.00–4.00) ms | **0.750** (0.750–0.750) | ≤ 0.5: missed | 2 |',
  );
  expect(page).toContain('| load | 4.00 ms | ≤ 5 ms: met |');
  expect(page).toContain(
    '| Title | time | Peer | 0.750 | ≤ 0.5: missed |\n| Title | load |  | 4.00 ms | ≤ 5 ms: met |',
  );
  expect(page).toContain('- Not measured: Other: not here\n');
  expect(page).toContain('Not measured: more: reason.\n');
  expect(page).toContain('**An aim was missed.** Because.');
});

test('what is measured anew takes its old place in a report, and what is new comes last', () => {
  const section = (id: string, date: string): Section => ({
    date,
    measurement: { id, title: id, method: '', whenMissed: '' },
    findings: { comparisons: [], figures: [], skipped: [] },
  });

  const sections = replaceSections(
    [section('a', 'old'), section('b', 'old')],
    [section('c', 'new'), section('a', 'new')],
  );

  expect(sections.map(({ date, measurement }) => measurement.id + date)).toEqual(['anew', 'bold', 'cnew']);
});

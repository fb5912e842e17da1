/** The text format, byte by byte. */
import { expect, test } from 'bun:test';
import { formatMetrics } from '../../../src/api/metrics/open-metrics.ts';

test('nothing is an end of file', () => {
  expect(formatMetrics([])).toBe('# EOF\n');
});

test('a counter gets _total, its unit and its help; labels are in order', () => {
  const text = formatMetrics([
    {
      name: 'a_seconds',
      type: 'counter',
      unit: 'seconds',
      help: 'Time.',
      samples: [{ labels: { vcpu: 1, mode: 'user' }, value: 0.5 }],
    },
  ]);

  expect(text).toBe(
    '# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds Time.\na_seconds_total{vcpu="1",mode="user"} 0.5\n# EOF\n',
  );
});

test('quotes, backslashes and line ends in labels are escaped, so that no label adds a line', () => {
  const samples = [{ labels: { kernel: 'a"b\\c\nd 1' }, value: 1 }];

  const text = formatMetrics([{ name: 'volt', type: 'info', help: 'x', samples }]);

  expect(text).toContain('volt_info{kernel="a\\"b\\\\c\\nd 1"} 1\n');
});

test('what is no number is written as the format has it', () => {
  const samples = [Number.NaN, Infinity, -Infinity, 2 ** 40].map((value) => ({ value }));

  const text = formatMetrics([{ name: 'g', type: 'gauge', help: 'x', samples }]);

  expect(text).toContain('g NaN\ng +Inf\ng -Inf\ng 1099511627776\n');
});

test('a family without samples is left out', () => {
  expect(formatMetrics([{ name: 'g', type: 'gauge', help: 'x', samples: [] }])).toBe('# EOF\n');
});

test('labels of the whole exposition come before those of a sample', () => {
  const samples = [{ labels: { vcpu: 1 }, value: 1 }, { value: 2 }];

  const text = formatMetrics([{ name: 'g', type: 'gauge', help: 'x', samples }], {
    node: 'a"b',
    guest: 'web',
  });

  expect(text).toContain('\ng{node="a\\"b",guest="web",vcpu="1"} 1\ng{node="a\\"b",guest="web"} 2\n');
});

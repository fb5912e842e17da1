import { expect, test } from 'bun:test';
import { parseConfig } from '../../../../src/config/config.ts';
import { currentSections } from '../../../../src/virtio/host/current-config.ts';
import { placePciSlot } from '../../../../src/virtio/host/placement.ts';

const drive = (id: string) => ({ drive_id: id, path_on_host: `/${id}` });
const INPUT = {
  drives: [drive('a'), drive('b')],
  'network-interfaces': [{ iface_id: 'net0', host_dev_name: 'tap0' }],
  volt: { pci: true },
};

test('the configuration of a machine in which a disk was unplugged and another plugged gives its devices and slots', () => {
  const { devices } = parseConfig(INPUT).config;
  const [config] = parseConfig({ drives: [drive('c')] }).config.devices;
  const [, b, net] = devices.map((each, i) => ({
    config: each,
    placement: placePciSlot(i + 1),
    settings: {},
  }));
  const plugged = { config: config!, placement: placePciSlot(9), settings: {}, item: drive('c') };

  const sections = currentSections(INPUT, [b!, net!, plugged], true);

  expect(sections).toMatchObject({
    drives: [drive('b'), drive('c')],
    volt: { pci: true, pci_slots: [2, 9, 3] },
  });
  expect(parseConfig(sections).config.devices.map(({ id }) => id)).toEqual(['b', 'c', 'net0']);
  expect(parseConfig(sections).config.pci).toEqual({ buses: 1, slots: [2, 9, 3] });
});

test('without a change it is that of the start', () => {
  expect(currentSections(INPUT, [], false)).toEqual(INPUT);
});

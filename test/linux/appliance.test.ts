/** Volt as a service: the package on a Debian with systemd, its guests, their limits, and what happens to them. */
import { afterAll, describe, expect } from 'bun:test';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { disposeAppliance, prepareAppliance, runOnAppliance } from './appliance-host.ts';
import { beforeAll, EVERY_BOOT, LINUX_TEST, thorough } from './linux-host.ts';

/** Bound for a hang only. */
const SECONDS = 350;
const isRoot = process.getuid?.() === 0;

beforeAll(async () => {
  if (!isRoot || !EVERY_BOOT) return;
  await ensurePackages(['mkfs.ext4', 'busybox', 'tar', 'dpkg-deb']);
  await prepareAppliance();
}, 600_000);

afterAll(disposeAppliance);

describe.skipIf(!isRoot)('Volt as a service (needs root to make a machine)', () => {
  thorough(
    'apt installs it, and systemctl start volt@demo runs the guest inside both sandboxes',
    async () => {
      const { stdout } = await runOnAppliance(
        `dpkg -P volt >/dev/null 2>&1; apt-get install -y -q $files/volt.deb >/dev/null || exit 1
        systemctl start volt@demo; echo "started $?"
        await demo 'Deactivated successfully' 1
        echo "result $(show demo Result) $(show demo ExecMainStatus)"
        journal demo`,
        SECONDS,
      );

      expect(stdout).toContain('started 0\n');
      expect(stdout).toContain('result success 0\n');
      expect(stdout).toContain('Found 2 CPUs\n');
      expect(stdout).toContain('\nPASS\n');
    },
    LINUX_TEST,
  );

  thorough(
    'volt start, stop, restart, logs and rm drive the unit of a guest by its name',
    async () => {
      const { stdout } = await runOnAppliance(
        `echo "{ $beats }" > /tmp/named.json
        volt create /tmp/named.json
        volt ps -a | grep named
        volt start named; echo "start $? $(show named ActiveState)"
        volt ps | grep -o 'named .* running'
        await named heartbeat 1
        volt start named; echo "again $?"
        volt ctl named status | grep state
        volt console --read-only named > /tmp/console & sleep 3; kill $!
        grep -c heartbeat /tmp/console
        volt inspect named | grep Unit
        volt restart named; echo "restart $? $(show named ActiveState)"
        volt logs -n 3 named | grep -c .
        volt stop named; echo "stop $? $(show named ActiveState)"
        volt rm named; echo "rm $?"; ls /etc/volt/named.json 2>&1`,
        SECONDS,
      );

      expect(stdout).toContain('/etc/volt/named.json\n');
      expect(stdout).toMatch(/^ *- +named .* stopped/m);
      expect(stdout).toContain('start 0 active\n');
      expect(stdout).toMatch(/^named .* running$/m);
      expect(stdout).toContain('again 2\n');
      expect(stdout).toMatch(/^state +running$/m);
      expect(stdout).toMatch(/^[1-9]\d*\nUnit +volt@named\.service$/m);
      expect(stdout).toContain('restart 0 active\n3\n');
      expect(stdout).toContain('stop 0 inactive\n');
      expect(stdout).toMatch(/^rm 0\nls: cannot access/m);
    },
    LINUX_TEST,
  );

  thorough(
    'a guest of /etc/volt runs as nobody that exists, is seen by ps and health, and powers itself off when it is stopped',
    async () => {
      const { stdout } = await runOnAppliance(
        `echo "{ $linux }" > /etc/volt/web.json
        systemctl start volt@web; await web 'VOLT-GUEST serves' 1
        pid=$(show web MainPID)
        echo "state $(show web ActiveState)"
        grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/$pid/status
        echo "user $(stat -c %u /proc/$pid) $(getent passwd $(stat -c %u /proc/$pid) | cut -d: -f1)"
        echo "roots $(readlink /proc/$pid/ns/mnt) $(readlink /proc/self/ns/mnt)"
        volt ps; volt health; echo "health $?"
        volt ctl $pid status | grep state
        systemctl stop volt@web
        echo "result $(show web Result) $(show web ExecMainStatus)"
        journal web; ls -A /run/volt`,
        SECONDS,
      );

      expect(stdout).toContain('state active\n');
      expect(stdout).toContain('CapEff:\t0000000000000000\n');
      expect(stdout).toContain('NoNewPrivs:\t1\nSeccomp:\t2\n');
      // systemd answers for users that exist only while a unit runs, in the range that it keeps for them.
      expect(Number(/^user (\d+)/m.exec(stdout)?.[1])).toBeGreaterThanOrEqual(61_184);
      const [, own, host] = /^roots (\S+) (\S+)$/m.exec(stdout)!;
      expect(own).not.toBe(host);
      expect(stdout).toMatch(
        /^ *\d+ +web +1 +256 MiB +\S+ +running +\/srv\/guest\/vmlinux +\/run\/volt\/web\/control.sock$/m,
      );
      expect(stdout).toMatch(/^OK: guest web running for \S+, 1 vCPUs\nhealth 0$/m);
      expect(stdout).toMatch(/^state +running$/m);
      expect(stdout).toContain('VOLT-GUEST power button\n');
      expect(stdout).toContain('reboot: Power down\n');
      expect(stdout).toContain('result success 0\n');
      expect(stdout).toEndWith('CPU time.\n');
    },
    LINUX_TEST,
  );

  thorough(
    'a guest whose Volt is killed comes back; one whose configuration is wrong stays away, with the reason in the journal',
    async () => {
      const { stdout } = await runOnAppliance(
        `echo "{ $beats }" > /etc/volt/killed.json; echo '{ "boot-source": {} }' > /etc/volt/wrong.json
        systemctl start volt@killed; await killed heartbeat 1
        kill -KILL $(show killed MainPID)
        await killed 'Found 1 CPUs' 2
        echo "killed $(show killed NRestarts) $(show killed ActiveState)"; volt ps
        systemctl stop volt@killed; echo "stopped $(show killed Result)"
        systemctl start volt@wrong; echo "start $?"; until [ "$(show wrong ActiveState)" = failed ]; do sleep 0.2; done; sleep 4
        echo "wrong $(show wrong NRestarts) $(show wrong ActiveState) $(show wrong ExecMainStatus)"
        journalctl -p err -u volt@wrong -o cat --no-pager | grep -v systemd`,
        SECONDS,
      );

      expect(stdout).toContain('killed 1 active\n');
      expect(stdout).toMatch(/^ *\d+ .* running .*\/run\/volt\/killed\/control.sock$/m);
      expect(stdout).toContain('stopped success\n');
      expect(stdout).toContain('start 1\nwrong 0 failed 2\n');
      expect(stdout).toContain('volt: Cannot use --config /etc/volt/wrong.json: it names no kernel');
    },
    LINUX_TEST,
  );

  thorough(
    'a guest has its disk in /var/lib/volt, a tap of the group kvm, a vsock and metrics, also after a guest of root ran',
    async () => {
      const { stdout } = await runOnAppliance(
        `ip tuntap add service0 mode tap group kvm; ip link set service0 up
        volt --memory 64M --cmdline loop --cpus 1 --control </dev/null >/tmp/root 2>&1 & root=$!
        until grep -q heartbeat /tmp/root; do sleep 0.2; done
        cat > /etc/volt/all.json <<JSON
        { $linux, "drives": [{ "drive_id": "data", "path_on_host": "/var/lib/volt/all/data.img", "is_root_device": false,
            "is_read_only": false }], "network-interfaces": [{ "iface_id": "net", "host_dev_name": "service0" }],
          "vsock": { "guest_cid": 5, "uds_path": "/run/volt/all/v.sock" }, "balloon": {}, "entropy": {} }
JSON
        mkdir -p /etc/systemd/system/volt@all.service.d
        printf '[Service]\\nEnvironment="VOLT_OPTIONS=--metrics /run/volt/all/metrics.sock"\\n' > /etc/systemd/system/volt@all.service.d/options.conf
        systemctl daemon-reload
        systemctl start volt@all; until [ "$(show all ActiveState)" = failed ]; do sleep 0.2; done
        truncate -s 8M /var/lib/volt/all/data.img; chown --reference=/var/lib/volt/all/ /var/lib/volt/all/data.img
        systemctl start volt@all; await all 'VOLT-GUEST serves' 1
        volt ps | sed 's/^/ps: /'; ls /run/volt/all
        volt ctl $(show all MainPID) devices
        stat -c 'socket %a' /run/volt/all/metrics.sock
        kill $root; systemctl stop volt@all; journal all`,
        SECONDS,
      );

      expect(stdout).toContain('Cannot use --disk /var/lib/volt/all/data.img: there is no such file');
      expect(stdout.match(/^ps: +\d+ .* running /gm)).toHaveLength(2);
      expect(stdout).toContain('control.sock\nmetrics.sock\nv.sock\n');
      expect(stdout).toMatch(/^data +block .* running /m);
      expect(stdout).toMatch(/^net +net .* running /m);
      expect(stdout).toContain('socket 600\n');
      expect(stdout).toContain('reboot: Power down\n');
    },
    LINUX_TEST,
  );

  thorough(
    'a guest that takes more memory than MemoryMax= is killed alone and started again, and comes up when it may have more',
    async () => {
      const { stdout } = await runOnAppliance(
        `echo "{ $linux }" > /etc/volt/greedy.json; echo "{ $beats }" > /etc/volt/other.json
        limit() {
          mkdir -p /etc/systemd/system/volt@greedy.service.d
          printf "[Service]\nMemoryMax=$1\n" > /etc/systemd/system/volt@greedy.service.d/memory.conf
          systemctl daemon-reload
        }
        limit 40M
        systemctl start volt@other volt@greedy; await greedy "Failed with result 'oom-kill'" 1
        limit 400M
        await greedy 'VOLT-GUEST serves' 1
        echo "greedy $(show greedy ActiveState)"
        echo "other $(show other ActiveState) $(show other NRestarts)"
        volt health; echo "health $?"
        systemctl stop volt@greedy volt@other; journal greedy`,
        SECONDS,
      );

      expect(stdout).toContain('greedy active\nother active 0\n');
      expect(stdout).toContain('health 0\n');
      expect(stdout).toContain('A process of this unit has been killed by the OOM killer.\n');
      expect(stdout).toContain('reboot: Power down\n');
    },
    LINUX_TEST,
  );

  thorough(
    '--jail --cgroup puts every thread into the cgroup, whose limits of processor time and memory hold',
    async () => {
      const { stdout } = await runOnAppliance(
        `cd /sys/fs/cgroup; echo '+cpu +memory' > cgroup.subtree_control
        mkdir -p guests/one; echo '+cpu +memory' > guests/cgroup.subtree_control
        mkdir -p /srv/jail; chmod 755 /srv/jail; cp -n /srv/guest/vmlinux /srv/guest/initrd /srv/jail/
        jailed() { exec volt run --jail /srv/jail --uid 12345 --gid 12346 --cgroup guests/one --cpus 2 "$@" </dev/null; }
        echo '20000 100000' > guests/one/cpu.max
        (jailed --memory 64M --cmdline loop) > /tmp/beats 2>&1 & volt=$!
        until grep -q 'heartbeat 3' /tmp/beats; do sleep 0.2; done
        echo "in $(cat /proc/$volt/cgroup)"
        for task in /proc/$volt/task/*; do grep -qx "$(basename $task)" guests/one/cgroup.threads || echo "outside $task"; done
        # Of the time since then: what it has used, in percent.
        used() { sed -n 's/^usage_usec //p' guests/one/cpu.stat; }
        now() { date +%s%6N; }
        used0=$(used); now0=$(now); sleep 5; echo "percent $((100 * ($(used) - used0) / ($(now) - now0)))"
        kill -KILL $volt; wait $volt
        echo max > guests/one/cpu.max; echo 40M > guests/one/memory.max
        (jailed --memory 256M --kernel /vmlinux --initrd /initrd) > /tmp/greedy 2>&1; echo "killed $?"
        grep oom_kill guests/one/memory.events
        echo max > guests/one/memory.max
        (jailed --memory 256M --kernel /vmlinux --initrd /initrd --cmdline 'console=ttyS0 reboot=k panic=-1 quiet' --no-reboot) > /tmp/fits 2>&1
        echo "fits $?"; rmdir guests/one`,
        SECONDS,
      );

      expect(stdout).toContain('in 0::/guests/one\n');
      expect(stdout).not.toContain('outside');
      // A fifth of one processor, of which it could take all.
      const percent = Number(/^percent (\d+)$/m.exec(stdout)?.[1]);
      expect(percent).toBeGreaterThan(5);
      expect(percent).toBeLessThan(30);
      expect(stdout).toContain('killed 137\noom_kill 1\n');
      expect(stdout).toContain('fits 0\n');
    },
    LINUX_TEST,
  );

  thorough(
    'an upgrade leaves the guest running and steerable, and its next start is the new version',
    async () => {
      const { stdout } = await runOnAppliance(
        `apt-get install -y -q --allow-downgrades $files/volt.deb >/dev/null
        echo "{ $linux }" > /etc/volt/upgraded.json
        systemctl start volt@upgraded; await upgraded 'VOLT-GUEST serves' 1
        before=$(show upgraded MainPID)
        apt-get install -y -q $files/newer.deb >/dev/null; echo "upgraded $?"
        [ "$(show upgraded MainPID)" = $before ] && readlink /proc/$before/exe
        echo "reload $(show upgraded NeedDaemonReload)"
        volt ctl $before pause && volt ctl $before resume && volt health
        systemctl restart volt@upgraded; await upgraded 'VOLT-GUEST serves' 2
        readlink /proc/$(show upgraded MainPID)/exe
        systemctl stop volt@upgraded; journal upgraded | grep -c 'reboot: Power down'`,
        SECONDS,
      );

      expect(stdout).toContain('upgraded 0\n/usr/bin/volt (deleted)\nreload no\n');
      expect(stdout).toMatch(/^OK: guest upgraded running/m);
      expect(stdout).toEndWith('\n/usr/bin/volt\n2\n');
    },
    LINUX_TEST,
  );

  thorough(
    'removing it asks the guests to power off; purging it leaves what is theirs, and nothing of its own',
    async () => {
      const { stdout } = await runOnAppliance(
        `echo "{ $linux }" > /etc/volt/last.json
        systemctl enable -q --now volt@last; await last 'VOLT-GUEST serves' 1
        apt-get remove -y -q volt >/dev/null; echo "removed $?"
        echo "result $(show last Result) $(show last ActiveState)"; journal last | grep -c 'reboot: Power down'
        ls /etc/volt/demo.json /etc/systemd/system/multi-user.target.wants/volt@last.service
        dpkg -P volt >/dev/null 2>&1; echo "purged $?"
        ls /etc/volt/demo.json /usr/bin/volt /lib/systemd/system/volt@.service 2>&1
        find /etc/systemd/system /usr/share -name '*volt*' -not -name '*.service.d'; ls -d /etc/volt/last.json /var/lib/volt/last`,
        SECONDS,
      );

      expect(stdout).toBe(
        [
          'removed 0',
          'result success inactive',
          '1',
          '/etc/systemd/system/multi-user.target.wants/volt@last.service',
          '/etc/volt/demo.json',
          'purged 0',
          ...['/etc/volt/demo.json', '/usr/bin/volt', '/lib/systemd/system/volt@.service'].map(
            (path) => `ls: cannot access '${path}': No such file or directory`,
          ),
          '/etc/volt/last.json',
          '/var/lib/volt/last',
          '',
        ].join('\n'),
      );
    },
    LINUX_TEST,
  );
});

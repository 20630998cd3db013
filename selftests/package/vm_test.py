#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 1500
"""
The packages on a machine of their own, and the change-over both ways.  In a VM, after
package/chroot KERNEL: scripts/run-vm KERNEL -- selftests/package/vm_test.py [STEP...]

     client              router                       server
     eth0  <--->  eth0 10.66.0.1   eth1 10.67.0.1  <--->  eth0
     10.66.0.2             nat, filter                10.67.0.2

Rules are in the initial namespace, the router's, and one that has no name but a process.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../lib'))
from dut import ROOT, wait
from netns import Netns, run
from tap import Tap

SWITCH, HELPER, LINK = '/usr/sbin/xtjit-switch', '/usr/sbin/xtjitd', '/etc/modprobe.d/xtjit-switch.conf'
STATE = '/run/xtjit-switch'
TABLES = [f'{p}table_{t}' for p in ('ip', 'ip6')
          for t in ('filter', 'nat', 'mangle', 'raw', 'security')]

ROUTER = '''*nat
:PREROUTING ACCEPT [1:2]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
[0:0] -A POSTROUTING -s 10.66.0.0/24 -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [123456789:987654321012]
:FORWARD DROP [5:600]
:OUTPUT ACCEPT [0:0]
:OLD - [0:0]
[7:8] -A INPUT -s 192.0.2.0/24 -p udp -m udp --dport 53 -m comment --comment "a  b" -j OLD
[0:0] -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
[0:0] -A FORWARD -i eth0 -p tcp -m tcp --dport 7 -m conntrack --ctstate NEW -j ACCEPT
[9:10] -A OLD -j RETURN
COMMIT
'''
ROUTER6 = '''*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
[3:4] -A PREROUTING -s 2001:db8::/32 -j DROP
COMMIT
'''
INITIAL = '''*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
[11:12] -A INPUT -s 198.51.100.7/32 -j DROP
COMMIT
'''
NAMELESS = '''*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
[13:14] -A FORWARD -m mark --mark 0x1 -j ACCEPT
COMMIT
'''
STEPS = ['failures', 'on', 'off_fails', 'off', 'in_the_open', 'out_of_reach', 'on', 'by_modprobe', 'remove']


def loaded(module):
    return os.path.exists(f'/sys/module/{module}/initstate')


def plain(text):
    """A saved ruleset without comments, its tables in order."""
    tables, name = {}, ''
    for line in text.splitlines():
        name = line if line.startswith('*') else name
        if not line.startswith('#'):
            tables.setdefault(name, []).append(line)
    return [line for name in sorted(tables) for line in tables[name]]


class Network:
    def __init__(self):
        self.client, self.router, self.server = (Netns(n) for n in ('client', 'router', 'server'))
        for i, (host, net) in enumerate(((self.client, 66), (self.server, 67))):
            # No address, no packet of IPv6's own: it would be counted.
            self.router.ip(f'link add eth{i} type veth peer name eth0 netns {host.name}',
                           f'link set eth{i} addrgenmode none up', f'addr add 10.{net}.0.1/24 dev eth{i}')
            host.ip('link set lo up', 'link set eth0 addrgenmode none up', f'addr add 10.{net}.0.2/24 dev eth0',
                    f'route add default via 10.{net}.0.1')
        self.router.sysctl(net__ipv4__ip_forward=1)
        self.nameless = subprocess.Popen(['unshare', '--net', 'sleep', 'infinity'])
        wait(lambda: os.stat(f'/proc/{self.nameless.pid}/ns/net').st_ino !=
             os.stat('/proc/self/ns/net').st_ino, 10)

    def enter(self, where):
        return {'initial': [], 'router': ['ip', 'netns', 'exec', self.router.name],
                'nameless': ['nsenter', f'--net=/proc/{self.nameless.pid}/ns/net']}[where]

    def rules(self):
        for where, tool, text in (('router', 'iptables', ROUTER), ('router', 'ip6tables', ROUTER6),
                                  ('initial', 'iptables', INITIAL), ('nameless', 'iptables', NAMELESS)):
            run(self.enter(where) + [f'{tool}-legacy-restore', '-c'], input=text)

    def saved(self):
        """What is in force, everywhere."""
        return {(where, tool): plain(run(self.enter(where) + [f'{tool}-legacy-save', '-c']).stdout)
                for where in ('initial', 'router', 'nameless') for tool in ('iptables', 'ip6tables')}

    def close(self):
        self.nameless.kill()
        self.nameless.wait()
        for n in (self.client, self.router, self.server):
            n.delete()


class Flood:
    """Packets that the router's policy drops, while `with`: .passed those that it did not."""

    def __init__(self, net):
        self.net, self.passed, self.sent = net, 0, 0

    def __enter__(self):
        self.stop = threading.Event()
        self.rx = self.net.router.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rx.bind(('', 9))
        self.rx.setblocking(False)
        self.tx = self.net.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while not self.stop.wait(0.005):
            self.tx.sendto(b'x', ('10.66.0.1', 9))
            self.sent += 1

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        try:
            while self.rx.recv(10):
                self.passed += 1
        except BlockingIOError:
            pass
        self.rx.close()
        self.tx.close()


class Stream:
    """A connection through the router's address translation."""

    def __init__(self, net):
        with net.server.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(('', 7))
            s.listen()
            self.here = net.client.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.here.settimeout(30)
            self.here.connect(('10.67.0.2', 7))
            self.there, self.peer = s.accept()
            self.there.settimeout(30)

    def alive(self):
        """A byte there and back; retransmission has its time."""
        try:
            self.here.send(b'?')
            self.there.send(self.there.recv(1))
            return self.here.recv(1) == b'?'
        except OSError:
            return False

    def close(self):
        self.here.close()
        self.there.close()


class Test:
    def __init__(self):
        self.t, self.net, self.stream = Tap(), None, None

    def switch(self, *args):
        """(exit status, output); no pipe, for a helper that hangs would keep it open."""
        with tempfile.TemporaryFile('w+') as f:
            status = subprocess.run([SWITCH, *args], stdout=f, stderr=f).returncode
            f.seek(0)
            text = f.read()
        for line in text.splitlines():
            self.t.diag(f'{" ".join(args)}: {line}')
        return status, text

    def is_place(self, want, name):
        has = {m for m in ['xtjit', 'ip_tables', 'ip6_tables'] + TABLES if loaded(m)}
        good = has == {'xtjit'} if want == 'xtjit' else has and 'xtjit' not in has
        link = os.path.exists(LINK)
        self.t.ok(good and link == (want == 'xtjit'), f'{name}: {want} is in place', f'{has}, link: {link}')
        gates = run(['nft', 'list', 'tables']).stdout + self.net.router.run(['nft', 'list', 'tables']).stdout
        self.t.ok('xtjit_switch' not in gates and not os.path.exists(STATE), f'{name}: nothing is left of the change',
                  gates)

    def change(self, command, status, place, name, *args):
        """The rules stay as they are, whatever happens; no packet passes meanwhile."""
        before = self.net.saved()
        with Flood(self.net) as flood:
            got, text = self.switch(command, *args)
        self.t.eq(got, status, f'{name}: exit status')
        self.is_place(place, name)
        after = self.net.saved()
        for key in before:
            self.t.eq(self.unflooded(after[key]), self.unflooded(before[key]), f'{name}: the rules of {" ".join(key)}')
        self.t.eq(flood.passed, 0, f'{name}: no packet passes')
        self.t.ok(flood.sent > 20, f'{name}: they were sent', f'{flood.sent}')
        self.t.ok(self.stream.alive(), f'{name}: a connection goes on')
        fresh = Stream(self.net)
        self.t.eq(fresh.peer[0], '10.67.0.1', f'{name}: a new one is translated')
        fresh.close()
        return text

    def unflooded(self, rules):
        """Without the counters that the flood moves."""
        return [re.sub(r'^(:INPUT DROP|:PREROUTING ACCEPT) .*', r'\1', line) for line in rules]

    # --- the story

    def install(self):
        release = os.uname().release
        series = os.environ['XTJIT_VM']
        if os.path.islink(f'/lib/modules/{release}'):
            os.unlink(f'/lib/modules/{release}')
        run(['tar', '-x', '-C', '/', '-f', f'{ROOT}/build/package/{series}.tar'])
        self.t.ok('installed' in run(['dkms', 'status', 'xtjit']).stdout, 'DKMS has built the module')
        path = run(['modinfo', '-n', 'xtjit']).stdout
        self.t.ok('/updates/dkms/xtjit.ko' in path, 'modprobe finds it', path)
        wants = '/etc/systemd/system/multi-user.target.wants/xtjitd.service'
        self.t.ok(not os.path.lexists(wants), 'the unit is not enabled')

    def nothing_changed(self):
        self.t.eq(self.switch('status')[0], 1, 'after installation: off')
        run(['iptables-legacy', '-S'])
        self.t.ok(loaded('ip_tables') and not loaded('xtjit'), 'after installation: iptables loads ip_tables')

    def failures(self):
        """A helper that ends, and one that hangs."""
        os.rename(HELPER, HELPER + '.good')
        self.t.eq(self.switch('on')[0], 1, 'on without a helper: exit status')
        self.is_place('ip_tables', 'on without a helper')
        self.helper('exit 1')
        self.change('on', 1, 'ip_tables', 'on, helper ends', '--limit', '40')
        self.helper('echo $$ >>/run/hanging; exec sleep 1000')
        self.change('on', 1, 'ip_tables', 'on, helper hangs', '--limit', '20')
        with open('/run/hanging') as f:
            for pid in map(int, f):
                os.kill(pid, signal.SIGKILL)
        os.rename(HELPER + '.good', HELPER)

    def helper(self, script):
        with open(HELPER, 'w') as f:
            f.write(f'#!/bin/sh\n{script}\n')
        os.chmod(HELPER, 0o755)

    def on(self):
        text = self.change('on', 0, 'xtjit', 'on')
        self.t.ok(re.search(r'xtjit is in place, with 4 rulesets, after \d+ ms', text), 'on: it says how long')
        self.t.eq(self.switch('status')[0], 0, 'on: status')
        for m in ('ip_tables', 'ip6table_nat'):
            run(['modprobe', m])
        self.is_place('xtjit', 'modprobe of ip_tables')
        self.t.eq(self.switch('on')[0], 0, 'on twice')

    def off_fails(self):
        """A table that ip_tables has no module for."""
        path = run(['modinfo', '-n', 'iptable_mangle']).stdout.strip()
        run(['mount', '--bind', '/dev/null', path])
        self.change('off', 1, 'xtjit', 'off, a table is missing')
        run(['umount', path])

    def off(self):
        self.change('off', 0, 'ip_tables', 'off')

    def in_the_open(self):
        for command, place in (('on', 'xtjit'), ('off', 'ip_tables')):
            self.t.eq(self.switch(command, '--open')[0], 0, f'{command} --open')
            self.is_place(place, f'{command} --open')

    def out_of_reach(self):
        """A namespace that nothing leads to but a socket: its rules are not dropped."""
        hidden = Netns('hidden')
        hidden.run(['iptables-legacy', '-A', 'INPUT', '-j', 'ACCEPT'])
        held = hidden.socket(socket.AF_INET, socket.SOCK_DGRAM)
        hidden.delete()
        self.change('on', 1, 'ip_tables', 'on, rules out of reach', '--limit', '40')
        held.close()

    def by_modprobe(self):
        """As after a reboot: the first iptables loads it, or ip_tables where it cannot be."""
        run(['xtjit', 'unload'])
        self.t.ok(not loaded('xtjit'), 'xtjit unload')
        run(['iptables-legacy', '-A', 'OUTPUT', '-j', 'ACCEPT'])
        self.is_place('xtjit', 'the first iptables')
        run(['xtjit', 'unload'])
        path = run(['modinfo', '-n', 'xtjit']).stdout.strip()
        run(['mount', '--bind', '/dev/null', path])
        run(['iptables-legacy', '-A', 'OUTPUT', '-j', 'ACCEPT'])
        self.t.ok(loaded('ip_tables') and not loaded('xtjit'), 'the first iptables, without the module: ip_tables')
        self.t.ok('xtjit: not loaded, but ip_tables' in run(['dmesg']).stdout, 'and the kernel log says so')
        run(['umount', path])
        self.net.rules()
        self.t.eq(self.switch('on')[0], 0, 'and back')

    def remove(self):
        before = self.net.saved()
        r = run(['dpkg', '-P', 'xtjit-dkms', 'xtjit'], check=False)
        self.t.eq(r.returncode, 0, 'removal of the packages') or self.t.diag(r.stdout + r.stderr)
        self.is_place('ip_tables', 'removal')
        self.t.eq(self.net.saved(), before, 'removal: all rules are in ip_tables')
        left = run(['find', '/usr', '/etc', '/lib/modules', '/var/lib/dkms', '-xdev', '-name', '*xtjit*'],
                   check=False).stdout
        self.t.eq([p for p in left.split() if not p.startswith(ROOT)], [], 'removal: nothing is left')

    def main(self, steps):
        try:
            self.install()
            self.net = Network()
            self.nothing_changed()
            self.net.rules()
            self.stream = Stream(self.net)
            for step in steps:
                self.t.diag(f'{time.monotonic():.0f} s: {step}')
                getattr(self, step)()
        except (RuntimeError, OSError) as e:
            self.t.ok(False, 'the test itself', f'{type(e).__name__}: {e}')
        finally:
            if self.net:
                self.net.close()
        return self.t.done()


if not os.environ.get('XTJIT_VM'):
    print('1..0 # SKIP for scripts/run-vm: it changes the machine')
    sys.exit(4)
sys.exit(Test().main(sys.argv[1:] or STEPS))

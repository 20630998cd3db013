#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 600
"""
The helper under the module, in a VM (scripts/run-vm): who starts it, what it
refuses and how, what it leaves, what holds a namespace.

usage: helper_test.py [-k WORD]		only the tests whose name has WORD
"""
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import kmod
import tap
from netns import Netns, run

XTJIT, XTJITD = (os.path.join(dut.BUILD, n) for n in ('xtjit', 'xtjitd'))
IPTABLES, SAVE = 'iptables-legacy', 'iptables-legacy-save'
RESTORE = 'iptables-legacy-restore'
PINS = '/sys/fs/bpf/xtjit'
LOG = '/run/xtjit/xtjitd.sock.log'
NO_LEGACY = '/etc/modprobe.d/xtjit-test.conf'


def sh(*cmd, ns=None, check=True, **kw):
    r = ns.run(list(cmd), check, **kw) if ns else run(list(cmd), check, **kw)
    return r.stdout + r.stderr


def send(ns, n):
    """@n datagrams of 29 bytes to ourselves."""
    with ns, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _ in range(n):
            s.sendto(b'x', ('127.0.0.1', 9))


def helper():
    """Process id of the helper that the module started, or 0."""
    r = run(['pidof', 'xtjitd'], check=False)
    return int(r.stdout.split()[0]) if r.returncode == 0 else 0


def status(ns=None):
    return sh(XTJIT, 'status', ns=ns)


def pins(ns):
    return dut.pins([ns.cookie])


def kernel_log():
    return sh('dmesg')


def dev_mode(ns, dev):
    """The early stage's mode of a device, as the kernel says it."""
    text = sh('ip', '-d', 'link', 'show', 'dev', dev, ns=ns)
    if re.search(r'prog/xdp', text):
        return 'XDP'
    return 'TC' if 'bpf' in sh('tc', 'filter', 'show', 'dev', dev, 'ingress', ns=ns, check=False) \
        else 'none'


def test_takeover(t):
    """Rules that were set without the module, which then comes."""
    if tuple(map(int, os.uname().release.split('.')[:2])) < (6, 4):
        return t.skip('takeover', 'no programs at the hooks without the module')
    p = Pair('take')
    n = p.ns
    rule = '-A INPUT -p udp -m udp --dport 9 -m conntrack --ctstate NEW'
    try:
        with open(NO_LEGACY, 'w') as f:
            f.write('install ip_tables /bin/false\n')

        def shim(*cmd, **kw):
            return sh(XTJIT, 'run', '--', *cmd, ns=n, **kw)
        shim(IPTABLES, *rule.split())
        # so large that it is read in place
        drops = ''.join(f'-A INPUT -s 10.5.{i >> 8}.{i & 255} -j DROP\n' for i in range(600))
        shim(RESTORE, '-n', input=f'*filter\n{drops}COMMIT\n')
        send(n, 3)
        t.ok('[3:87] ' + rule in shim(SAVE, '-c'), 'counted without the module', shim(SAVE, '-c'))
        t.ok(dut.wait(lambda: dev_mode(n, 'eth0') != 'none', 3), 'the early stage is on')
        run(['modprobe', 'xtjit', f'helper={XTJITD}'])
        t.ok(dut.wait(lambda: os.listdir(PINS) == ['module'], 5), 'the helper sees the module come')
        send(n, 2)
        t.ok('[5:145] ' + rule in sh(SAVE, '-c', ns=n), 'and takes rules and counters over',
             sh(SAVE, '-c', ns=n))
        t.eq(sh(SAVE, ns=n).count('10.5.'), 600, 'all of them')
        send(n, 2)
        t.ok('[7:203] ' + rule in sh(SAVE, '-c', ns=n), 'packets count once', sh(SAVE, '-c', ns=n))
        t.ok('run by the module' in status(n), 'in the module', status(n))
        t.ok(dev_mode(n, 'eth0') != 'none', 'the early stage is there again')
        t.ok('xtjit' not in sh('nft', 'list', 'ruleset', ns=n, check=False), 'nor the table of nft')
        n.delete()
        t.ok(dut.wait(lambda: not p.peer_is_there(), 2), 'and nothing holds the namespace')
        t.ok(not run([XTJIT, 'unload'], check=False).returncode, 'unloaded')
    finally:
        os.unlink(NO_LEGACY)
        p.close()


class Pair:
    """A namespace with eth0, whose peer is ours."""

    def __init__(self, tag):
        self.ns = Netns(tag)
        self.peer = f'p{self.ns.name[-10:]}'
        run(['ip', 'link', 'add', self.peer, 'type', 'veth', 'peer', 'name', 'eth0', 'netns',
             self.ns.name])
        self.ns.ip('link set lo up', 'link set eth0 up', 'addr add 10.81.0.1/24 dev eth0')
        run(['ip', 'link', 'set', self.peer, 'up'])

    def peer_is_there(self):
        return os.path.exists(f'/sys/class/net/{self.peer}')

    def close(self):
        self.ns.delete()
        run(['ip', 'link', 'del', self.peer], check=False)


def test_start(t):
    run(['modprobe', 'xtjit', f'helper={XTJITD}'])
    t.ok(not helper(), 'nobody needs a helper yet')
    out = sh(IPTABLES, '-S')
    t.eq(out.splitlines(), ['-P INPUT ACCEPT', '-P FORWARD ACCEPT', '-P OUTPUT ACCEPT'],
         'the first option makes an empty table')
    t.ok(helper(), 'the module has started the helper')
    with open('/proc/net/ip_tables_names') as f:
        t.eq(f.read(), 'filter\n', 'and it is listed')
    t.ok('run by the module' in status(), 'xtjit status says so', status())
    env = dict(os.environ, XTJIT_SOCKET='/run/second.sock')
    r = run([XTJITD, '--module'], check=False, env=env)
    t.ok(r.returncode == 1 and 'another helper has it' in r.stderr, 'a second one says why not',
         r.stderr)
    r = run([XTJITD, '--module'], check=False)
    t.ok(r.returncode == 1 and 'another helper listens there' in r.stderr,
         'and on the same socket', r.stderr)
    r = run([XTJIT, 'adopt'], check=False)
    t.ok(r.returncode == 1 and "every table is xtjit's" in r.stderr, 'adopt explains itself',
         r.stderr)


def test_rules(t):
    n = Netns('rules')
    try:
        sh(IPTABLES, '-A', 'INPUT', '-p', 'udp', '-m', 'recent', '--name', 'x', '--set', ns=n)
        sh(IPTABLES, '-A', 'INPUT', '-m', 'conntrack', '--ctstate', 'INVALID', '-j', 'DROP', ns=n)
        sh(IPTABLES, '-t', 'nat', '-A', 'POSTROUTING', '-o', 'eth9', '-j', 'MASQUERADE', ns=n)
        save = sh(SAVE, ns=n)
        t.ok('recent --set' in save and 'MASQUERADE' in save, 'native rules are there', save)
        t.ok('1 native parts' in status(n), 'and counted', status(n))
        r = n.run([IPTABLES, '-A', 'INPUT', '-j', 'MASQUERADE'], check=False)
        t.ok(r.returncode and 'Invalid argument' in r.stderr, 'a target of another table is refused',
             r.stderr)
        t.ok('filter INPUT rule 3: target "MASQUERADE" is refused by the kernel: Invalid argument'
             in kernel_log(), 'the kernel log has the rule and the reason', kernel_log()[-600:])
        t.eq(re.sub(r'^#.*\n', '', sh(SAVE, ns=n), flags=re.M),
             re.sub(r'^#.*\n', '', save, flags=re.M), 'the old ruleset stays')
        sh('ip', 'link', 'set', 'lo', 'up', ns=n)
        send(n, 3)
        t.ok('[3:87] -A INPUT -p udp -m recent' in sh(SAVE, '-c', ns=n), 'rules count',
             sh(SAVE, '-c', ns=n))
        sh(IPTABLES, '-Z', ns=n)
        t.ok('[0:0] -A INPUT -p udp -m recent' in sh(SAVE, '-c', ns=n), 'and are zeroed')
        r = run([XTJIT, 'run', '--', IPTABLES, '-w', '-A', 'INPUT', '-s', '10.9.9.9'], check=False)
        t.ok(not r.returncode and '10.9.9.9' in sh(SAVE), 'xtjit run leaves it to the module',
             r.stderr)
        r = run([XTJIT, 'run', '--early=off', '--', 'iptables', '-S'], check=False)
        t.ok('10.9.9.9' in r.stdout and 'early off' in status(),
             'by the name iptables, too, and says how early', r.stdout + r.stderr)
        sh(IPTABLES, '-F')
    finally:
        n.delete()


def tracking(n):
    """Conntrack entries after a datagram."""
    send(n, 1)
    with n:
        with open('/proc/thread-self/net/nf_conntrack') as f:
            return f.read().count('dport=9 ')


def test_conntrack(t):
    run(['modprobe', 'nf_conntrack'])
    if not os.path.exists('/proc/net/nf_conntrack'):
        return t.skip('conntrack', 'this kernel does not list its entries')
    n = Netns('track')
    try:
        sh('ip', 'link', 'set', 'lo', 'up', ns=n)
        sh(IPTABLES, '-A', 'INPUT', '-p', 'udp', ns=n)
        t.eq(tracking(n), 0, 'conntrack is off where no rule needs it')
        sh(IPTABLES, '-A', 'INPUT', '-m', 'state', '--state', 'ESTABLISHED', ns=n)
        t.ok('native' not in status(n), 'a compiled match of connection tracking')
        t.ok(tracking(n) > 0, 'turns it on')
        rules = ''.join(f'-A INPUT -s 10.9.0.{i} -j DROP\n' for i in range(40))
        sh(f'{IPTABLES}-restore', '-n', ns=n, input=f'*filter\n{rules}COMMIT\n')
        os.kill(helper(), signal.SIGKILL)
        sh(IPTABLES, '-I', 'INPUT', '20', '-s', '10.9.1.1', '-j', 'DROP', ns=n)
        t.ok('ip filter: in part' in status(n), 'a new helper makes an update in part', status(n))
        before = tracking(n)
        t.eq(tracking(n), before + 1, 'which leaves it on')
        sh(IPTABLES, '-F', ns=n)
        time.sleep(0.1)
        sh('ip', 'link', 'set', 'lo', 'down', ns=n)
        sh('ip', 'link', 'set', 'lo', 'up', ns=n)
    finally:
        n.delete()


def test_life(t):
    p = Pair('life')
    n = p.ns
    try:
        sh(IPTABLES, '-A', 'INPUT', '-s', '10.1.1.1', '-j', 'DROP', ns=n)
        t.ok(dut.wait(lambda: dev_mode(n, 'eth0') != 'none', 3), 'the early stage is on')
        pid = helper()
        os.kill(pid, signal.SIGKILL)
        t.ok(dut.wait(lambda: not dut.alive(pid), 3), 'a helper is killed')
        sh(IPTABLES, '-A', 'INPUT', '-s', '10.1.1.2', '-j', 'DROP', ns=n)
        t.ok(helper() not in (0, pid), 'the module starts the next one')
        save = sh(SAVE, ns=n)
        t.ok('10.1.1.1' in save and '10.1.1.2' in save, 'which takes over', save)
        t.ok(dev_mode(n, 'eth0') != 'none', 'the early stage, too')
        os.kill(helper(), signal.SIGTERM)
        t.ok(dut.wait(lambda: not helper(), 3), 'SIGTERM ends it')
        t.ok('10.1.1.2' in sh(SAVE, ns=n), 'and nothing is lost')
        sh(XTJIT, 'early', 'off', ns=n)
        t.ok(dev_mode(n, 'eth0') == 'none', 'xtjit early off')
        sh(IPTABLES, '-A', 'INPUT', '-s', '10.1.1.3', '-j', 'DROP', ns=n)
        t.ok(dev_mode(n, 'eth0') == 'none', 'stays off')
        sh(XTJIT, 'early', 'on', ns=n)
        t.ok(dev_mode(n, 'eth0') != 'none', 'xtjit early on')
        n.ip('link add d0 type veth peer name d1', 'link set d0 up')
        t.ok(dut.wait(lambda: dev_mode(n, 'd0') != 'none', 3), 'a new device gets it')
        t.ok(pins(n), 'pins are named after the namespace')
        n.delete()
        t.ok(dut.wait(lambda: not p.peer_is_there(), 2), 'a namespace goes when it is deleted')
        t.ok(dut.wait(lambda: not pins(n), 4), 'and its pins')
    finally:
        p.close()


def early_drops(t, p, name, want):
    """Whether UDP to port 77 is dropped before the IP layer has seen it."""
    def received():
        with p.ns, open('/proc/thread-self/net/snmp') as f:
            rows = [line.split() for line in f if line.startswith('Ip:')]
        return int(rows[1][rows[0].index('InReceives')])
    sh(XTJIT, 'status', ns=p.ns)		# which is not told before the early stage has followed
    before = received()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, p.peer.encode())
        for _ in range(5):
            s.sendto(b'x', ('10.81.0.1', 77))
    time.sleep(0.3)
    seen = received() - before
    t.ok((seen == 0) == want, name, f'{seen} of 5 seen')


def test_early(t):
    p = Pair('early')
    n = p.ns
    try:
        mac = re.search(r'link/ether (\S+)', sh('ip', 'link', 'show', 'dev', 'eth0', ns=n))[1]
        run(['ip', 'addr', 'add', '10.81.0.2/24', 'dev', p.peer])
        run(['ip', 'neigh', 'replace', '10.81.0.1', 'lladdr', mac, 'dev', p.peer])
        rule = ['INPUT', '-p', 'udp', '--dport', '77', '-j', 'DROP']
        sh(IPTABLES, '-A', *rule, ns=n)
        early_drops(t, p, 'filter INPUT drops early', True)
        t.ok('[5:145] -A INPUT -p udp' in sh(SAVE, '-c', ns=n), 'and counts', sh(SAVE, '-c', ns=n))
        sh(IPTABLES, '-I', 'INPUT', '-m', 'recent', '--name', 'y', '--rcheck', '-j', 'ACCEPT', ns=n)
        early_drops(t, p, 'not behind a native match', False)
        sh(IPTABLES, '-D', 'INPUT', '1', ns=n)
        early_drops(t, p, 'again without it', True)
        sh(IPTABLES, '-t', 'nat', '-L', ns=n)
        early_drops(t, p, 'not behind nat, whose policies count', False)
        sh(XTJIT, 'early', 'eager', ns=n)
        early_drops(t, p, 'but if told to be eager', True)
        sh(IPTABLES, '-t', 'nat', '-A', 'PREROUTING', '-p', 'udp', '--dport', '77', '-j', 'REDIRECT',
           '--to-ports', '78', ns=n)
        early_drops(t, p, 'nor where nat changes destinations', False)
        sh(IPTABLES, '-t', 'nat', '-F', ns=n)
        early_drops(t, p, 'and again without', True)
        n.ip('addr del 10.81.0.1/24 dev eth0')
        n.ip('addr add 10.81.0.9/24 dev eth0')
        time.sleep(0.3)
        early_drops(t, p, 'an address that is not local any more is not INPUT', False)
    finally:
        p.close()


def user_ns(*cmd, script=None):
    """Runs @cmd in a user and network namespace of an unprivileged user."""
    cmd = ['setpriv', '--reuid', '65534', '--clear-groups', 'unshare', '-Urn', *cmd]
    env = dict(os.environ, XTABLES_LOCKFILE=f'/tmp/xtables-{os.getpid()}.lock')
    return run(cmd, check=False, input=script, env=env)


def test_user_namespaces(t):
    r = user_ns('sh', '-c', f'{IPTABLES} -A INPUT -s 10.2.2.2 -j DROP && {SAVE} && sleep 1.5')
    if 'unshare' in r.stderr and r.returncode:
        return t.skip('user namespaces', r.stderr)
    t.ok('10.2.2.2' in r.stdout, 'an unprivileged namespace has its tables', r.stderr)
    r = user_ns('sh', '-c', f'{IPTABLES} -L >/dev/null; '
                'ip link add d0 type veth peer name d1; ip link set d0 up; sleep 0.5; ip -d link')
    t.ok('prog/xdp' not in r.stdout, 'but no early stage', r.stdout)
    many = '*filter\n:INPUT ACCEPT\n' + '-A INPUT -s 10.2.2.2 -j DROP\n' * 66000 + 'COMMIT\n'
    r = user_ns(IPTABLES + '-restore', script=many)
    t.ok(r.returncode and 'failed' in r.stderr, 'nor as many rules as it likes', r.stderr[:300])
    t.ok('at most' in kernel_log(), 'the log says why', kernel_log()[-500:])
    r = user_ns('sh', '-c', f'{IPTABLES} -A OUTPUT -m owner --uid-owner 0 -j ACCEPT && {SAVE}')
    t.ok('--uid-owner 0' in r.stdout, 'owner is about its own users', r.stdout + r.stderr)
    r = user_ns('sh', '-c', f'{IPTABLES} -A OUTPUT -m owner --uid-owner 1 -j ACCEPT')
    t.ok('Invalid argument' in r.stderr, 'and knows those that it has', r.stderr)
    t.ok(dut.wait(lambda: not [d for d in os.listdir(PINS + '/module') if d not in known()], 20),
         'they leave nothing', str(set(os.listdir(PINS + '/module')) - set(known())))


def known():
    """Namespaces that live on: that of process 1."""
    with socket.socket() as s:
        cookie = int.from_bytes(s.getsockopt(socket.SOL_SOCKET, 71, 8), 'little')
    return [f'{cookie:x}']


def test_killing(t):
    """Every update succeeds, once, though helpers are killed all the time."""
    n = Netns('kill')
    try:
        sh(IPTABLES, '-N', 'part', ns=n)
        failed = []
        for i in range(40):
            p = n.popen([IPTABLES, '-w', '-A', 'part', '-s', f'10.3.0.{i}'],
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            time.sleep(0.01 * (i % 9))
            pid = helper()
            if pid:
                os.kill(pid, signal.SIGKILL)
            out = p.communicate()[0]
            if p.returncode:
                failed.append(f'{i}: {out}')
        t.ok(not failed, 'every update succeeds', '\n'.join(failed))
        rules = [line for line in sh(IPTABLES, '-S', 'part', ns=n).splitlines() if '-A' in line]
        t.eq(rules, [f'-A part -s 10.3.0.{i}/32' for i in range(40)], 'each of them once')
    finally:
        n.delete()


def test_unload(t):
    p = Pair('unload')
    try:
        sh(IPTABLES, '-A', 'INPUT', '-s', '10.1.1.1', '-j', 'DROP', ns=p.ns)
        t.ok(dut.wait(lambda: dev_mode(p.ns, 'eth0') != 'none', 3), 'the early stage is on')
        t.ok(run(['rmmod', 'xtjit'], check=False).returncode, 'rmmod does not take rules away')
        os.kill(helper(), signal.SIGKILL)
        r = run([XTJIT, 'unload'], check=False)
        t.ok(not r.returncode, 'xtjit unload, without a helper before', r.stderr)
        t.ok(not os.path.exists('/dev/xtjit'), 'the module is gone')
        t.ok(not helper(), 'the helper, too')
        t.ok(dev_mode(p.ns, 'eth0') == 'none', 'nothing is left on devices')
        t.ok(not os.path.exists(PINS), 'nothing is pinned', sh('find', PINS, check=False))
        r = run([XTJIT, 'unload'], check=False)
        t.ok(r.returncode == 1 and 'not loaded' in r.stderr, 'a second time it says so', r.stderr)
    finally:
        p.close()


TESTS = [test_takeover, test_start, test_rules, test_conntrack, test_life, test_early, test_user_namespaces,
         test_killing, test_unload]


def main():
    word = sys.argv[2] if sys.argv[1:2] == ['-k'] else ''
    if not os.environ.get('XTJIT_VM') or run(['modinfo', 'xtjit'], check=False).returncode:
        print('1..0 # SKIP: not in a VM with the module (scripts/vm-module, scripts/run-vm)')
        return 4
    t = tap.Tap()
    os.environ.pop('XTJIT_EARLY', None)		# the phase's
    kmod.legacy_out()
    for test in TESTS:
        if word in test.__name__ or test is test_start:
            t.diag(test.__name__)
            t.guard(test.__name__, test, t)
    if t.failures and os.path.exists(LOG):
        with open(LOG) as f:
            t.diag(f.read()[-3000:])
    return t.done()


sys.exit(main())

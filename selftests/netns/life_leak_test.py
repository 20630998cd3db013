#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
1000 updates, and namespaces that come and go: the helper's open files, the BPF
programs, maps and links in the kernel, and the helper's memory stay what they were.
"""
import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import tap
from netns import run
from router import Router

RULES = '''*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:u - [0:0]
-A INPUT -p tcp -m multiport --dports 22,80 -j u
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A INPUT -p udp -m limit --limit 5/min -j LOG
-A INPUT -p udp -j REJECT
-A u -s 192.0.2.0/24 -j DROP
''' + ''.join(f'-A INPUT -p tcp -m tcp --dport {20000 + i} -j DROP\n' for i in range(40)) + '''\
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -s 198.51.100.7 -j DROP
COMMIT
'''
UPDATES = int(os.environ.get('XTJIT_UPDATES', '1000'))
TYPES = 4			# KEPT_TYPES in umh/load.c
OTHERS = 15			# BPF objects that are not ours, more or less
SLACK_KB = 2048			# of resident memory: the allocator's, not the rulesets'


def in_kernel():
    """{kind: number} of all BPF objects there are."""
    out = {}
    for kind in ('prog', 'map', 'link'):
        out[kind] = len(json.loads(run(['bpftool', '-j', kind, 'show']).stdout or '[]'))
    return out


def use(pid, cookies):
    """What the helper holds: open files, BPF objects by them, pins of @cookies; but for BTF."""
    out = dict(files=0, prog=0, map=0, link=0)
    for fd in os.listdir(f'/proc/{pid}/fdinfo'):
        try:
            if is_btf(pid, fd):
                continue
            with open(f'/proc/{pid}/fdinfo/{fd}') as f:
                text = f.read()
        except FileNotFoundError:	# closed since it was listed
            continue
        out['files'] += 1
        for kind in ('prog', 'map', 'link'):
            out[kind] += f'\n{kind}_id:' in text
    out['pins'] = sum(len(files) for c in dut.pins(cookies) for _, _, files in os.walk(c))
    return out


def is_btf(pid, fd):
    try:
        return os.readlink(f'/proc/{pid}/fd/{fd}') == 'anon_inode:btf'
    except FileNotFoundError:	# closed since it was listed
        return False


def links(pid):
    """{what is open: how often}, for who has to find what is new."""
    out = {}
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            link = re.sub(r'\[\d+\]', '', os.readlink(f'/proc/{pid}/fd/{fd}'))
        except FileNotFoundError:
            continue
        out[link] = out.get(link, 0) + 1
    return out


def kept_types(pid):
    """BTF: of the kernel's modules, and of the last programs."""
    return sum(is_btf(pid, fd) for fd in os.listdir(f'/proc/{pid}/fd'))


def resident(pid):
    with open(f'/proc/{pid}/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS'))


class Watch:
    """What is used, from now on."""

    def __init__(self, t, impl, label):
        self.t, self.impl, self.label = t, impl, f'{impl.name}: {label}'
        time.sleep(0.3)
        self.pid = impl.pid()
        self.before, self.kb, self.all = self.least(), resident(self.pid), in_kernel()
        self.types, self.links = kept_types(self.pid), links(self.pid)

    def least(self):
        """What is open for a moment only is not counted."""
        samples = []
        for _ in range(15):
            samples.append(self.use())
            time.sleep(0.1)
        return min(samples, key=lambda u: u['files'])

    def use(self):
        return use(self.pid, self.impl.cookies)

    def settled(self):
        """Some is freed late, and some open for a moment, which is long on a slow machine."""
        now = []
        dut.wait(lambda: now.append(self.use()) or now[-1] == self.before, 15)
        return now[-1]

    def check(self):
        t = self.t
        t.eq(self.impl.pid(), self.pid, f'{self.label}: the helper is still the same')
        now = self.settled()
        t.ok(now == self.before, f'{self.label}: open files, programs, maps, links, pins',
             f'{self.before}, then {now}; {self.links}, then {links(self.pid)}')
        types = kept_types(self.pid)
        t.ok(types < self.types + TYPES, f'{self.label}: BTF: {self.types}, then {types}')
        # Others may load programs too.
        dut.wait(lambda: self.grown() <= OTHERS, 5)
        t.ok(self.grown() <= OTHERS, f'{self.label}: BPF objects in the kernel',
             f'{self.all}, then {in_kernel()}')
        more = resident(self.pid) - self.kb
        t.ok(more <= SLACK_KB, f'{self.label}: memory: {self.kb} kB and {more} more')

    def grown(self):
        return max(n - self.all[k] for k, n in in_kernel().items())


def update(r, count):
    for i in range(count // 4):
        r.firewall('-A', 'INPUT', '-p', 'tcp', '--dport', str(i + 1), '-j', 'DROP')
        r.firewall('-t', 'raw', '-I', 'PREROUTING', '-p', 'udp', '-j', 'DROP')
        r.firewall('-D', 'INPUT', '-p', 'tcp', '--dport', str(i + 1), '-j', 'DROP')
        r.firewall('-t', 'raw', '-D', 'PREROUTING', '1')


def test_updates(t, impl):
    r = Router('k', impl, False)
    try:
        r.restore(RULES)
        update(r, UPDATES // 5)
        watch = Watch(t, impl, f'{UPDATES} updates')
        update(r, UPDATES)
        watch.check()
    finally:
        r.close()
    gone = dut.wait(lambda: not dut.pins([r.ns.cookie]), 5)
    t.ok(gone, f'{impl.name}: the namespace is gone')


def test_namespaces(t, impl):
    """Each namespace that goes takes all with it."""
    cycle(impl, 4)
    watch = Watch(t, impl, '30 namespaces')
    cycle(impl, 30)
    watch.check()


def cycle(impl, count):
    for i in range(count):
        r = Router('n', impl, i % 2 == 1)
        try:
            r.restore('*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -j REJECT\nCOMMIT\n')
        finally:
            r.close()
    dut.wait(lambda: not dut.pins(impl.cookies), 6)


def main():
    t = tap.Tap()
    impls = dut.make(early=('on',), fallback='refuse')
    try:
        for impl in impls[1:]:
            if not impl.real:
                t.skip('leaks', 'the kernel stands in for xtjit')
                continue
            t.guard('updates', test_updates, t, impl)
            t.guard('namespaces', test_namespaces, t, impl)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
1000 updates, and namespaces that come and go: the helper's open files, the BPF
programs, maps and links in the kernel, and the helper's memory stay what they were.
"""
import json
import os
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
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -s 198.51.100.7 -j DROP
COMMIT
'''
UPDATES = int(os.environ.get('XTJIT_UPDATES', '1000'))
SLACK_KB = 2048			# of resident memory: the allocator's, not the rulesets'


def bpf(pid):
    """{kind: number} of what the kernel has; of one helper where bpftool can tell."""
    out = {}
    for kind in ('prog', 'map', 'link'):
        r = run(['bpftool', '-j', kind, 'show'], check=False)
        rows = json.loads(r.stdout or '[]')
        if any('pids' in row for row in rows):
            rows = [row for row in rows if any(p['pid'] == pid for p in row.get('pids', ()))]
        out[kind] = len(rows)
    return out


def open_files(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def resident(pid):
    with open(f'/proc/{pid}/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS'))


def use(pid):
    return dict(files=open_files(pid), **bpf(pid))


def settled(pid, want):
    """use() once it is @want, or after 5 s: what is freed late may take its time."""
    dut.wait(lambda: use(pid) == want, 5)
    return use(pid)


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
        pid = impl.pid()
        time.sleep(0.3)
        before, kb = use(pid), resident(pid)
        update(r, UPDATES)
        t.eq(impl.pid(), pid, f'{impl.name}: the helper is still the same')
        t.eq(settled(pid, before), before, f'{impl.name}: files, programs, maps, links')
        grown = resident(pid) - kb
        t.ok(grown <= SLACK_KB, f'{impl.name}: memory: {kb} kB and {grown} more')
    finally:
        r.close()
    gone = dut.wait(lambda: not dut.pins([r.ns.cookie]), 5)
    t.ok(gone, f'{impl.name}: the namespace is gone')


def test_namespaces(t, impl):
    """Each namespace that goes takes all with it."""
    cycle(impl, 4)
    pid = impl.pid()
    before, kb = use(pid), resident(pid)
    cycle(impl, 30)
    t.eq(settled(pid, before), before, f'{impl.name}: nothing is left of 30 namespaces')
    grown = resident(pid) - kb
    t.ok(grown <= SLACK_KB, f'{impl.name}: memory: {kb} kB and {grown} more')


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
    impls = dut.make(fallback='refuse')
    try:
        for impl in impls[1:]:
            if not impl.real:
                t.skip('leaks', 'the kernel stands in for xtjit')
                continue
            t.guard('updates', test_updates, t, impl)
            t.guard('namespaces', test_namespaces, t, impl)
    finally:
        impls[1].close()
    return t.done()


sys.exit(main())

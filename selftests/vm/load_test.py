#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
"""
The module comes and goes: 100 times, with and without rules, helper, requests on
their way; it refuses to while there are rules; nothing is left.
"""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import kmod
import leak
import tap
from netns import Netns, run

TIMES = 100
RULES = '''*filter
:INPUT DROP [0:0]
:u - [0:0]
-A INPUT -i lo -m recent --name load --set -j u
-A INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT
-A u -p udp -j REJECT
-A u -p tcp -m connlimit --connlimit-above 2 -j DROP
COMMIT
*nat
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
*mangle
-A PREROUTING -p tcp -j MARK --set-mark 1
COMMIT
'''


def ruled(namespaces):
    for ns, tool in zip(namespaces, ('iptables', 'ip6tables')):
        ns.run([f'{tool}-legacy-restore'], input=RULES)


def racing(ns):
    """Requests that are on their way while the module goes."""
    jobs = [ns.popen(['iptables-legacy', '-w', '-t', t, '-S'], stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL) for t in ('filter', 'mangle')]
    kmod.flush()
    return jobs


def cycle(i, namespaces):
    """One life: bare, with an empty table, with rules, with requests in the end."""
    kmod.xtjit_in('on' if i % 2 else 'off')
    jobs = []
    if i % 5 == 1:
        namespaces[0].run(['iptables-legacy', '-S'])
    elif i % 5 == 2:
        ruled(namespaces)
    elif i % 5 == 3:
        jobs = racing(namespaces[0])
    kmod.xtjit_out()
    for j in jobs:
        j.wait(30)


def test_refusal(t, namespaces):
    kmod.xtjit_in()
    try:
        ruled(namespaces)
        r = run(['rmmod', 'xtjit'], check=False)
        t.ok(r.returncode, 'rmmod refuses while there are rules')
        text = namespaces[0].run(['iptables-legacy-save']).stdout
        t.ok('MASQUERADE' in text and '-A u' in text, 'and they are still there', text)
        r = run(['modprobe', 'ip_tables'], check=False)
        t.ok(r.returncode and 'ip_tables' not in kmod.loaded(),
             'ip_tables cannot be loaded beside it')
    finally:
        kmod.xtjit_out()
    t.ok(dut.wait(lambda: not kmod.helpers(), 5), 'the helper leaves with the module',
         str(kmod.helpers()))
    run(['modprobe', 'ip_tables'])
    r = run(['modprobe', 'xtjit'], check=False)
    t.ok(r.returncode and 'xtjit' not in kmod.loaded(), 'nor it beside ip_tables', r.stderr)
    kmod.legacy_out()


def test_orphans(t, ns):
    """A helper that was killed has left its early programs; flush takes them away."""
    def early():
        return 'xdp' in ns.run(['ip', 'link', 'show', 'v0']).stdout
    ns.ip('link add v0 type veth peer name v1')
    kmod.xtjit_in('on')
    try:
        ns.run(['iptables-legacy', '-A', 'INPUT', '-s', '192.0.2.1', '-j', 'DROP'])
        t.ok(dut.wait(early, 10), 'an early program drops')
        for pid in kmod.helpers():
            os.kill(pid, signal.SIGKILL)
        t.ok(dut.wait(lambda: not kmod.helpers(), 5) and early(), 'also when the helper is killed')
    finally:
        kmod.xtjit_out()
    t.ok(dut.wait(lambda: not early() and not kmod.helpers(), 10),
         'flush takes it away, and no helper stays')
    ns.ip('link del v0')


def test_cycles(t, namespaces):
    for i in range(4, 8):
        cycle(i, namespaces)
    watch = leak.Watch(t, f'loaded {TIMES} times')
    before = {m: n for m, n in kmod.loaded().items() if m.startswith(('x', 'nf_'))}
    for i in range(TIMES):
        cycle(i, namespaces)
    t.ok(True, f'{TIMES} times loaded and unloaded')
    watch.check()
    after = {m: n for m, n in kmod.loaded().items() if m in before}
    t.eq(after, before, 'nobody else is used more than before')
    t.eq([f for f in os.listdir('/sys/fs/bpf') if f == 'xtjit' and os.listdir(dut.PINS)], [],
         'nothing is pinned')


def main():
    t = tap.Tap()
    namespaces = [Netns('l'), Netns('l')]
    try:
        t.guard('refusal', test_refusal, t, namespaces)
        t.guard('orphans', test_orphans, t, namespaces[0])
        t.guard('cycles', test_cycles, t, namespaces)
    finally:
        for ns in namespaces:
            ns.delete()
    return t.done()


sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 120
"""
The ring buffer to the helper overflows: answers and log lines are lost, verdicts
and counters are not, and what comes later is answered and logged again.  What fits
waits there for the next helper.
"""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import pkt
import stream
import tap
from router import MAC_P, MAC_R, PEER, ROUTER, Router

RULES = '''*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p udp -m udp --dport 9 -j REJECT --reject-with {reject}
-A FORWARD -p udp -m udp --dport 9 -j LOG --log-prefix "xtjit ring test "
-A FORWARD -p udp -m udp --dport 9 -j ACCEPT
COMMIT
'''
RING = 4 << 20			# umh/main.c
LEAST = 1536			# bytes of a record: the packet's part of it, umh/event.h
MANY = RING // LEAST + 500	# more than it can hold
ALL_NETNS = '/proc/sys/net/netfilter/nf_log_all_netns'


def rules(v6):
    return RULES.format(reject='icmp6-port-unreachable' if v6 else 'icmp-port-unreachable')


class Counted:
    """A router with these rules, and how many packets of each kind were sent to it."""

    def __init__(self, impl, v6):
        self.impl, self.v6 = impl, v6
        self.rejected = self.logged = 0
        self.router = Router('o', impl, v6)
        self.router.restore(rules(v6))

    def frame(self, to):
        b, s = pkt.Builder(self.v6), PEER[self.v6][0]
        return 0, pkt.eth(MAC_R[0], MAC_P[0], b.ethertype,
                          b.ip(s, to, pkt.UDP, b.udp(s, to, 4000, 9, b'ring')))

    def send(self, rejected, logged):
        """(answers that came back, packets that went through)"""
        self.router.inject([self.frame(ROUTER[self.v6][0])] * rejected +
                           [self.frame(PEER[self.v6][1])] * logged)
        self.rejected += rejected
        self.logged += logged
        return self.arrived()

    def arrived(self):
        self.router.settle()
        at = 20 if self.v6 else 23
        seen = [(port, f[at]) for port, f in self.router.captured()]
        return seen.count((0, pkt.Builder(self.v6).icmp_proto)), seen.count((1, pkt.UDP))

    def status(self):
        """(answers sent, lines logged, packets that the ring had no room for)"""
        text = self.router.ns.run(self.impl.xtjit('status'), env=self.impl.env()).stdout
        logged, sent, lost = map(int, re.search(
            r'logged (\d+) .*rejected (\d+) .*lost (\d+)', text).groups())
        return sent, logged, lost

    def logged_loss(self):
        with open(self.impl.socket + '.log') as f:
            return 'the ring buffer was full' in f.read()

    def done(self):
        return self.status()[:2]

    def counters(self):
        save = self.router.save()
        return [stream.rule_packets(save, line) for line in rules(self.v6).splitlines()
                if line.startswith('-A')]

    def expected(self):
        return [self.rejected, self.logged, self.logged]


def test_overflow(t, impl, v6):
    label = f'v{6 if v6 else 4} {impl.name}'
    c = Counted(impl, v6)
    stopped = 0
    try:
        t.eq((c.send(5, 5), c.done()), ((5, 5), (5, 5)), f'{label}: answered, logged')
        stopped = impl.kill(signal.SIGSTOP)
        t.eq(c.send(MANY, 50), (0, 50), f'{label}: the helper is stopped: no answers, verdicts')
        os.kill(stopped, signal.SIGCONT)
        stopped = 0
        impl.idle(c.router.ns)
        answers, _ = c.arrived()
        sent, logged = c.done()
        t.ok(100 < answers < MANY and sent == 5 + answers,
             f'{label}: {answers} of {MANY} answers fit the ring', f'{sent} sent')
        t.eq(logged, 5, f'{label}: what came when it was full is not logged')
        t.eq(c.status()[2], MANY - answers + 50, f'{label}: what was lost is counted')
        t.ok(dut.wait(c.logged_loss, 5), f"{label}: and the helper's log says so")
        t.eq(c.counters(), c.expected(), f'{label}: counters')
        t.eq((c.send(5, 5), c.done()), ((5, 5), (sent + 5, 10)), f'{label}: and again')
        t.eq(c.counters(), c.expected(), f'{label}: counters at the end')
    finally:
        if stopped:
            os.kill(stopped, signal.SIGCONT)
        c.router.close()


def test_waiting(t, impl, v6):
    """Without a helper, what fits the ring waits there for the next one."""
    label = f'v{6 if v6 else 4} {impl.name}'
    c = Counted(impl, v6)
    try:
        pid = impl.kill(signal.SIGKILL)
        t.ok(pid and dut.wait(lambda: not dut.alive(pid), 5), f'{label}: the helper is killed')
        t.eq(c.send(5, 5), (0, 5), f'{label}: no helper: no answers, verdicts')
        subprocess.run(impl.xtjit('run', '--', 'true'), env=impl.env(), check=True)
        impl.idle(c.router.ns)
        t.eq((c.arrived(), c.done()), ((5, 0), (5, 5)), f'{label}: done by the next one')
        t.eq(c.counters(), c.expected(), f'{label}: counters')
    finally:
        c.router.close()


def main():
    t = tap.Tap()
    if not os.path.exists(ALL_NETNS):
        t.skip('ring', 'this kernel logs nothing')
        return t.done()
    with open(ALL_NETNS) as f:
        was = f.read()
    # lines of other namespaces than the first are logged, too
    with open(ALL_NETNS, 'w') as f:
        f.write('1')
    try:
        for v6 in (False, True):
            impl = dut.Xtjit(early='on')
            try:
                t.guard('overflow', test_overflow, t, impl, v6)
                t.guard('waiting', test_waiting, t, impl, v6)
            finally:
                impl.close()
    finally:
        with open(ALL_NETNS, 'w') as f:
            f.write(was)
    return t.done()


sys.exit(main())

# SPDX-License-Identifier: GPL-2.0
"""
A steady flow of UDP through a router, counted by the kernel at both ends: GOOD
is let through by every complete ruleset of a test, BAD by none.
"""
import contextlib
import os
import re
import signal
import socket
import sys
import time
import traceback

import flow

GOOD, BAD = 5001, 5002

# What is counted before it is decided: BAD by the chain part, GOOD behind it.
RULES = f'''*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:part - [0:0]
-A FORWARD -p udp -m udp --dport {GOOD}
-A FORWARD -p udp -m udp --dport {BAD}
-A FORWARD -j part
-A FORWARD -p udp -m udp --dport {GOOD} -j ACCEPT
-A part -p udp -m udp --dport {BAD} -j DROP
COMMIT
'''


def counters(ns, tool, chain):
    """{port: packets} of the counting rules in @ns."""
    text = ns.run([tool, '-t', 'raw', '-nvxL', chain]).stdout
    return {int(m.group(2)): int(m.group(1))
            for m in re.finditer(r'^\s*(\d+)\s.*dpt:(\d+)', text, re.M)}


class Stream:
    """From the client of a flow.Triangle to its server, @pps packets a second."""

    def __init__(self, net, pps=20000, size=20):
        # by another than what is tested: nf_tables where the module is
        self.net = net
        self.tool = net.tool.replace('legacy', 'nft') if net.impl.module else net.tool
        for host, chain in (('c', 'OUTPUT'), ('s', 'PREROUTING')):
            ns = net.hosts[host]
            for port in (GOOD, BAD):
                ns.run([self.tool, '-t', 'raw', '-A', chain, '-p', 'udp', '--dport', str(port)])
        net.hosts['s'].run([self.tool, '-A', 'INPUT', '-p', 'udp', '--dport',
                            f'{GOOD}:{BAD}', '-j', 'DROP'])
        # without NAPI for GRO's sake, veth throws away what it has queued when XDP goes
        for dev in ('eth0', 'eth1'):
            flow.set_offload(net.hosts['r'], dev, 'gro', 1)
        sock = net.hosts['c'].socket(net.family, socket.SOCK_DGRAM)
        sock.bind(('', 4000))
        self.pid = os.fork()
        if not self.pid:
            self.child(sock, pps, size)
        sock.close()
        self.paused = False

    def child(self, sock, pps, size):
        """Sends one of each port at a time, in small bursts; ends when its parent does."""
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            to = [(self.net.addr['s'], p) for p in (GOOD, BAD)]
            data, parent = b'u' * size, os.getppid()
            start, sent = time.monotonic(), 0
            while os.getppid() == parent:
                due = int((time.monotonic() - start) * pps)
                if due - sent > pps // 10:		# was stopped: no burst to catch up
                    start, sent = time.monotonic(), 0
                    continue
                while sent < due:
                    for a in to:
                        sock.sendto(data, a)
                    sent += 2
                time.sleep(0.001)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(1)

    def pause(self):
        """Stops sending; returns when all that was sent has gone through."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)
        last = None
        while last != (now := self.net.hosts['s'].devices()['eth0'][1]):
            last = now
            time.sleep(0.03)
        self.paused = True

    def resume(self):
        self.paused = False
        os.kill(self.pid, signal.SIGCONT)

    def sent(self):
        return counters(self.net.hosts['c'], self.tool, 'OUTPUT')

    def got(self):
        return counters(self.net.hosts['s'], self.tool, 'PREROUTING')

    def check(self, tap, what, read=None):
        """
        In a pause: read() gives (GOOD, BAD) as the router's rules, those of RULES, counted
        them.  All that was sent must be in them, every GOOD one have come through, no
        BAD one.
        """
        self.pause()
        try:
            sent, got = self.sent(), self.got()
            seen = read() if read else counted(self.net)
            ok = seen == (sent[GOOD], sent[BAD]) and got == {GOOD: sent[GOOD], BAD: 0}
            return tap.ok(ok, what, f'sent {sent}\nrules counted {seen}\narrived {got}\n'
                          f'lost on the links: {self.lost()}')
        finally:
            self.resume()

    def lost(self):
        return {k: sum(d[11] + d[3] for d in h.devices().values())
                for k, h in self.net.hosts.items()}

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def running(impl, v6, rules=RULES, owner=None, **kw):
    """
    (net, stream): a Stream through a router with @rules; @owner: whose they are
    before @impl is asked for anything.
    """
    net, s = flow.Triangle(impl, v6), None
    try:
        net.impl = owner or impl
        net.restore(rules)
        net.impl = impl
        s = Stream(net, **kw)
        yield net, s
    finally:
        s and s.close()
        net.close()


def counted(net, chain='FORWARD'):
    """(GOOD, BAD) as the rules of @chain counted them."""
    save = net.save()
    return tuple(rule_packets(save, f'-A {chain} -p udp -m udp --dport {p}')
                 for p in (GOOD, BAD))


def rule_packets(save, rule):
    """Packets of the first rule that is exactly @rule in a -save -c text; None without it."""
    m = re.search(r'^\[(\d+):\d+\] ' + re.escape(rule) + '$', save, re.M)
    return int(m.group(1)) if m else None

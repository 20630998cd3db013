# SPDX-License-Identifier: GPL-2.0
"""
A steady flow of UDP through a router, counted by the kernel at both ends: GOOD
is let through by every complete ruleset of a test, BAD by none.
"""
import os
import re
import signal
import socket
import sys
import time
import traceback

GOOD, BAD = 5001, 5002


def counters(ns, tool, chain):
    """{port: packets} of the counting rules in @ns."""
    text = ns.run([tool, '-t', 'raw', '-nvxL', chain]).stdout
    return {int(m.group(2)): int(m.group(1))
            for m in re.finditer(r'^\s*(\d+)\s.*dpt:(\d+)', text, re.M)}


class Stream:
    """From the client of a flow.Triangle to its server, @pps packets a second."""

    def __init__(self, net, pps=20000, size=20):
        self.net, self.tool = net, net.tool
        for host, chain in (('c', 'OUTPUT'), ('s', 'PREROUTING')):
            ns = net.hosts[host]
            for port in (GOOD, BAD):
                ns.run([self.tool, '-t', 'raw', '-A', chain, '-p', 'udp', '--dport', str(port)])
        net.hosts['s'].run([self.tool, '-A', 'INPUT', '-p', 'udp', '--dport',
                            f'{GOOD}:{BAD}', '-j', 'DROP'])
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

    def check(self, tap, what, read):
        """
        In a pause: read() gives (GOOD, BAD) as the router's rules counted them.  All
        that was sent must be in them, every GOOD one have come through, no BAD one.
        """
        self.pause()
        try:
            sent, got = self.sent(), self.got()
            counted = read()
            ok = counted == (sent[GOOD], sent[BAD]) and got == {GOOD: sent[GOOD], BAD: 0}
            return tap.ok(ok, what, f'sent {sent}\nrules counted {counted}\narrived {got}\n'
                          f'lost on the links: {self.lost()}')
        finally:
            self.resume()

    def lost(self):
        return {k: sum(d[11] + d[3] for d in h.devices().values())
                for k, h in self.net.hosts.items()}

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def rule_packets(save, rule):
    """Packets of the first rule that is exactly @rule in a -save -c text; None without it."""
    m = re.search(r'^\[(\d+):\d+\] ' + re.escape(rule) + '$', save, re.M)
    return int(m.group(1)) if m else None

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 120
"""
The early stage rests on a device where it has nothing to drop, and comes back when it
has; no count is lost over that, nor over a helper that is killed.
"""
import contextlib
import fcntl
import mmap
import os
import re
import signal
import socket
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '../lib'), os.path.join(HERE, '../bench')]
import bpfsys
import dut
import feed
import net
import tap
from netns import Netns
from pkt import UDP
from router import MAC_P, MAC_R, mac_text

# What is sent, by source; the last one only the exact stage can drop: a mark may have been set.
GOOD, BAD, MARK = '198.51.100.1', '192.0.2.1', '203.0.113.1'
RULES = f'''*filter
:INPUT ACCEPT [0:0]
-A INPUT -s {BAD} -j DROP
-A INPUT -s {MARK} -m mark --mark 0 -j DROP
-A INPUT -s {GOOD} -j ACCEPT
COMMIT
'''
CHUNK, PAUSE = 8192, 0.015		# frames at once, seconds between two: 100,000 a second or so
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 2, 0x1000


def keys(*sources):
    src = [struct.unpack('!I', socket.inet_aton(a))[0] for a in sources]
    dst = struct.unpack('!I', socket.inet_aton(net.LOCAL[0]))[0]
    return [feed.header(src[i % len(src)], dst, UDP, 1024 + i, net.PORT) for i in range(64)]


class Veth:
    """Frames made in the kernel."""

    def __init__(self):
        self.receiver = net.Receiver()
        self.ns, self.device = self.receiver.ns, 'r0'
        self.keys = {s: feed.Keys(keys(s)) for s in (GOOD, BAD, MARK)}

    def send(self, source):
        prog = self.receiver.program(self.keys[source])
        with self.receiver.gen:
            try:
                bpfsys.send(prog, self.receiver.frame, CHUNK)
            except InterruptedError:		# fewer were sent
                pass

    def sent(self, source):
        """The program's own count."""
        k = self.keys[source]
        with mmap.mmap(k.fd, k.count * feed.SLOT + 8) as m:
            return struct.unpack_from('Q', m, k.count * feed.SLOT)[0]

    def close(self):
        self.receiver.close()
        for k in self.keys.values():
            k.close()


class Tap:
    """A device that is not veth; frames are written to it."""

    def __init__(self):
        self.ns, self.device = Netns('tr'), 't0'
        self.ns.sysctl(net__ipv6__conf__default__disable_ipv6=1,
                       net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0)
        with self.ns:
            self.fd = os.open('/dev/net/tun', os.O_RDWR)
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack('16sH22x', b't0', IFF_TAP | IFF_NO_PI))
        self.ns.ip('link set lo up', f'link set t0 address {mac_text(MAC_R[0])} arp off up',
                   f'addr add {net.LOCAL[0]}/24 dev t0',
                   f'neigh replace {net.PEER} lladdr {mac_text(MAC_P[0])} dev t0 nud permanent',
                   f'route add default via {net.PEER}')
        self.socket = self.ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(('', net.PORT))
        self.count = dict.fromkeys((GOOD, BAD, MARK), 0)
        frame = feed.frame(MAC_R[0], MAC_P[0])
        self.frames = {s: frame[:feed.ETH] + keys(s)[0] + frame[feed.ETH + feed.HEADERS:]
                       for s in (GOOD, BAD, MARK)}

    def send(self, source):
        for _ in range(CHUNK // 4):
            os.write(self.fd, self.frames[source])
            self.count[source] += 1

    def sent(self, source):
        return self.count[source]

    def close(self):
        self.socket.close()
        os.close(self.fd)
        self.ns.delete()


class Traffic(threading.Thread):
    """Sends packets of one source, without an end."""

    def __init__(self, link):
        super().__init__()
        self.link, self.source, self.done = link, GOOD, threading.Event()
        self.failed = None

    def run(self):
        try:
            while not self.done.wait(PAUSE):
                self.link.send(self.source)
        except Exception as e:
            self.failed = e

    def stop(self):
        self.done.set()
        self.join()


class Case:
    """One device, its traffic, and the helper."""

    def __init__(self, t, impl, label, link):
        self.t, self.impl, self.label, self.link = t, impl, label, link
        impl.cookies.append(link.ns.cookie)
        self.traffic = Traffic(link)

    def status(self):
        """Of the device."""
        text = self.link.ns.run(self.impl.xtjit('status'), env=self.impl.env()).stdout
        m = re.search(f'^early {self.link.device}: (.*)', text, re.M)
        return m.group(1) if m else ''

    def attached(self):
        return 'xdp' in self.link.ns.run(['ip', '-d', 'link', 'show', self.link.device]).stdout

    def until(self, pattern, limit, name):
        got = dut.wait(lambda: re.match(pattern, self.status()), limit)
        self.t.ok(got, f'{self.label}: {name}', f'{pattern!r} not in {self.status()!r}')

    def firewall(self, *args, **kw):
        return self.link.ns.run(self.impl.command('iptables-legacy' + kw.pop('tool', '')) +
                                list(args), env=self.impl.env(), **kw).stdout

    def check_counts(self):
        """Nothing is sent any more."""
        text = self.firewall('-c', tool='-save')
        for source in (GOOD, BAD, MARK):
            m = re.search(f'\\[(\\d+):\\d+\\] -A INPUT -s {source}/32', text)
            self.t.eq(int(m.group(1)), self.link.sent(source), f'{self.label}: packets from {source}')

    def restart(self):
        self.impl.kill(signal.SIGKILL)
        self.firewall('-nL')		# starts the next one

    @contextlib.contextmanager
    def running(self):
        self.firewall(input=RULES, tool='-restore')
        self.traffic.start()
        try:
            yield self
        finally:
            self.traffic.stop()
        self.t.ok(not self.traffic.failed, f'{self.label}: everything was sent', self.traffic.failed)
        self.check_counts()


def there_and_back(c, stage):
    c.until(stage, 1, 'at work from the start')
    c.until('rests', 6, 'nothing is dropped: it rests')
    c.traffic.source = BAD
    c.until(stage, 5, 'much is dropped: it is back')


def test_veth(t, impl, link):
    c = Case(t, impl, 'veth', link)
    with c.running():
        c.until('XDP', 1, 'at work from the start')
        c.until('rests', 6, 'nothing is dropped: it rests')
        t.ok(not c.attached(), 'veth: no program is on the device')
        c.restart()
        c.until('XDP', 1, 'at work, for a helper that does not know')
        c.until('rests', 6, 'it rests again')
        c.traffic.source = MARK
        c.until('XDP', 5, 'much is dropped, which it cannot: it is back')
        c.until('rests.* in vain.* of 2 s', 6, 'it was in vain, and waits twice as long')
        c.traffic.source = BAD
        c.until('XDP', 6, 'it is back')
        c.restart()
        t.ok(c.attached(), 'veth: attached, whoever dies')


def test_tc(t, impl, link):
    c = Case(t, impl, 'TC', link)
    with link.ns:
        prog = bpfsys.verdict_program(bpfsys.XDP_PASS)
        taken = bpfsys.attach_xdp(prog, socket.if_nametoindex(link.device))
    try:
        with c.running():
            there_and_back(c, 'TC')
    finally:
        os.close(prog)
        os.close(taken)


def test_tap(t, impl, link):
    """Its driver, as others, is left with a program that does nothing."""
    c = Case(t, impl, 'tap', link)
    with c.running():
        there_and_back(c, 'XDP')
        t.ok(c.attached(), 'tap: attached')


def test_eager(t, impl, link):
    c = Case(t, impl.variant('eager', 'refuse'), 'eager', link)
    with c.running():
        time.sleep(4.5)
        t.eq(c.status(), 'XDP', 'eager: it never rests')


def main():
    dut.only_shim()
    t = tap.Tap()
    impl = dut.make(early=('on',))[-1]
    try:
        for fn, kind in ((test_veth, Veth), (test_tc, Veth), (test_tap, Tap), (test_eager, Veth)):
            link = kind()
            try:
                t.guard(fn.__name__, fn, t, impl, link)
            finally:
                link.close()
    finally:
        impl.close()
    return t.done()


sys.exit(main())

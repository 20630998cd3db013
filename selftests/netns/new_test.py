#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
Rules that tell NEW packets from INVALID ones, and drop: each kind of packet by itself,
compared with the kernel's own ip_tables; which of them are dropped on the device; and
where raw, or someone else, decides what conntrack sees, none is.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import pkt
import tap
from pkt import ACK, FIN, PSH, RST, SYN, TCP, UDP
from router import MAC_P, MAC_R, PEER, ROUTER, Router

EARLY, UP = True, False
RULES = '''*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:new - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m conntrack --ctstate NEW -j new
-A INPUT -j ACCEPT
-A new -p tcp -m tcp --dport 1000 -j ACCEPT
-A new -p tcp -j DROP
-A new -p udp -j DROP
-A new -j DROP
COMMIT
'''
# What conntrack is told of all packets to port 7.
NOTRACK = '''*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 7 -j CT --notrack
COMMIT
'''
NFT = ('add table {0} t; add chain {0} t c {{ type filter hook prerouting priority -300; }}; '
       'add rule {0} t c udp dport 7 notrack')


class Packets:
    """(name, dropped on the device?, frames)"""

    def __init__(self, v6):
        self.v6, self.b = v6, pkt.Builder(v6)
        self.s, self.d = PEER[v6][0], ROUTER[v6][0]

    def frame(self, proto, seg, size=0, **kw):
        packet = self.b.ip(self.s, self.d, proto, seg, **kw)
        return pkt.pad(pkt.eth(MAC_R[0], MAC_P[0], self.b.ethertype, packet), size, b'\xff')

    def tcp(self, flags=SYN, port=22, size=0, ip={}, **kw):
        return [self.frame(TCP, self.b.tcp(self.s, self.d, 999, port, flags, **kw), size, **ip)]

    def udp(self, n, port=53, size=0, ip={}, **kw):
        return [self.frame(UDP, self.b.udp(self.s, self.d, 999, port, b'\xa5' * n, **kw), size,
                           **ip)]

    def frags(self):
        seg = self.b.udp(self.s, self.d, 999, 53, b'f' * 40)
        return [pkt.eth(MAC_R[0], MAC_P[0], self.b.ethertype, p)
                for p in self.b.frags(self.s, self.d, UDP, seg, [(0, 24), (24, 48)])]

    def echo(self):
        seg = self.b.icmp(self.s, self.d, 128 if self.v6 else 8)
        return [self.frame(self.b.icmp_proto, seg)]

    def all(self):
        out = [('a SYN', EARLY, self.tcp()),
               ('a SYN, ECN', EARLY, self.tcp(SYN | 0xc0)),
               ('a SYN, PSH, data', EARLY, self.tcp(SYN | PSH, payload=b'data!')),
               ('a SYN, options', EARLY, self.tcp(opts=pkt.mss(1460) + pkt.SACKOK + pkt.TSTAMP)),
               ('a SYN, silly options', EARLY, self.tcp(opts=b'\x02\x01\x05\xb4')),
               ('a SYN, window 0', EARLY, self.tcp(window=0)),
               ('a SYN, padded', EARLY, self.tcp(size=90)),
               ('a SYN that is accepted', UP, self.tcp(port=1000)),
               ('a SYN, wrong checksum', UP, self.tcp(bad=True)),
               ('SYN, FIN', UP, self.tcp(SYN | FIN)),
               ('SYN, RST', UP, self.tcp(SYN | RST)),
               ('SYN, ACK', UP, self.tcp(SYN | ACK)),
               ('no flags', UP, self.tcp(0)),
               ('an ACK', UP, self.tcp(ACK)),
               ('a RST', UP, self.tcp(RST)),
               ('FIN, PSH, URG', UP, self.tcp(FIN | PSH | 0x20)),
               ('SYN, URG', UP, self.tcp(SYN | 0x20)),
               ('a small header length', UP, self.tcp(doff=4)),
               ('a large header length', UP, self.tcp(doff=15)),
               ('a part of a header', UP,
                [self.frame(TCP, self.b.tcp(self.s, self.d, 999, 22)[:16])]),
               ('UDP, wrong checksum', UP, self.udp(9, bad=True)),
               ('UDP, no checksum', EARLY, self.udp(9, csum=False)),
               ('UDP, too long', UP, self.udp(9, length=18)),
               ('UDP, length 7', UP, self.udp(9, length=7)),
               ('UDP, shorter than the packet', UP, self.udp(9, length=16)),
               ('UDP, padded', EARLY, self.udp(5, size=80)),
               ('UDP, fragments', UP, self.frags()),
               ('ICMP echo request', UP, self.echo()),
               ('a protocol without ports', UP, [self.frame(47, b'\0' * 12)])]
        out += [(f'UDP, {n} bytes', EARLY, self.udp(n))
                for n in (0, 1, 2, 3, 4, 55, 56, 119, 120, 503, 504, 1015, 1016, 1400, 1431)]
        if self.v6:
            seg = pkt.opts6(UDP) + self.b.udp(self.s, self.d, 999, 53)
            return out + [('UDP, an extension header', UP, [self.frame(60, seg)])]
        return out + [('a SYN, IP options', UP, self.tcp(ip=dict(opts=b'\1\1\1\1'))),
                      ('UDP, IP options', UP, self.udp(4, ip=dict(opts=b'\x94\4\0\0'))),
                      ('a SYN, wrong IP checksum', UP, self.tcp(ip=dict(bad=True)))]


def received(r):
    """Packets that IP has seen."""
    with r.ns:
        if r.v6:
            with open('/proc/thread-self/net/snmp6') as f:
                return int(dict(line.split() for line in f)['Ip6InReceives'])
        with open('/proc/thread-self/net/snmp') as f:
            names, values = (line.split() for line in f.read().splitlines()[:2])
        return int(values[names.index('InReceives')])


def send(r, frames):
    """How many IP has seen, of these."""
    before = received(r)
    r.inject([(0, f) for f in frames])
    r.settle()
    r.captured()
    return received(r) - before


def compare(t, routers, name):
    ref = routers[0].save()
    for r in routers[1:]:
        bad = diff.compare_save(ref, r.save())
        t.ok(not bad, f'{name}, {r.impl.name}', '\n'.join(bad))


def kinds(t, routers, v6):
    on = routers[-1]
    for name, early, frames in Packets(v6).all():
        for r in routers:
            r.ns.run(['conntrack', '-F'])
        seen = [send(r, frames) for r in routers]
        if on.impl.early == 'on':
            want = 0 if early else seen[0]
            t.eq(seen[-1], want, f'IPv{6 if v6 else 4}, {name}: seen by IP')
        compare(t, routers, f'IPv{6 if v6 else 4}, {name}')


def untracked(t, routers, v6):
    """Packets to port 7 that conntrack does not see, and others, are told by the exact stage."""
    p = Packets(v6)
    for r in routers:
        send(r, [*p.udp(4, port=7), *p.udp(4, port=8), *p.tcp(port=7), *p.udp(4, port=7, bad=True)])
    compare(t, routers, f'IPv{6 if v6 else 4}, not tracked')


def with_routers(t, impls, v6, fn, text, nft=''):
    routers = []
    try:
        for i, m in enumerate(impls):
            routers.append(Router(f'nw{i}', m, v6))
            if nft:
                routers[-1].ns.run(['nft', nft.format('ip6' if v6 else 'ip')])
            routers[-1].restore(text)
        fn(t, routers, v6)
    finally:
        diff.close(routers)


def main():
    dut.only_shim()
    t = tap.Tap()
    impls = dut.make(fallback='kernel')
    try:
        for v6 in (False, True):
            t.guard('kinds', with_routers, t, impls, v6, kinds, RULES)
            t.guard('raw', with_routers, t, impls, v6, untracked, NOTRACK + RULES)
            t.guard('nft', with_routers, t, impls, v6, untracked, RULES, NFT)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())

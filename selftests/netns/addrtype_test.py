#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 600
"""
Types of addresses while routes come and go: addrtype_test.py [SEED [ROUNDS]].
Random routes of all types, nested, in the table "local" and in "main", whose trie it
may share; random addresses as source and destination; compared with the kernel's own
ip_tables, the early stage off and on.
"""
import os
import random
import re
import sys
from ipaddress import ip_address

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import pkt
import tap
from router import MAC_P, MAC_R, Router

ROUTES, FRAMES = 12, 120		# of a round
DEVICE = {'local': 'dev lo', 'broadcast': 'dev eth0', 'anycast': 'dev eth1',
          'multicast': 'dev eth0', 'unicast': 'dev eth1', 'unreachable': '', 'prohibit': '',
          'blackhole': '', 'throw': ''}
TYPES = ['UNSPEC', 'UNICAST', 'LOCAL', 'BROADCAST', 'ANYCAST', 'MULTICAST', 'UNREACHABLE']
OWN = [int(ip_address(a)) for a in ('10.71.0.1', '10.71.0.255', '10.72.0.0', '127.0.0.1',
                                    '224.0.0.1', '255.255.255.255', '0.0.0.1', '8.8.8.8')]
# The errors that it sends of its own are limited by the time that has passed: ip_error().
OUTPUT = re.compile(r'^:OUTPUT .*\n', re.M)
RULES = '\n'.join(
    ['*raw', ':PREROUTING ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]'] +
    [f'-A PREROUTING -m addrtype --{side}-type {t}' for side in ('src', 'dst') for t in TYPES] +
    ['-A PREROUTING -m addrtype ! --src-type LOCAL,UNICAST --dst-type LOCAL,UNICAST -j DROP',
     'COMMIT', '*filter', ':INPUT DROP [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]',
     '-A INPUT -m addrtype ! --src-type UNICAST -j ACCEPT',
     '-A INPUT -m addrtype --dst-type LOCAL -j DROP',
     '-A FORWARD -m addrtype --dst-type UNICAST -j DROP', 'COMMIT', ''])


class Routes:
    """What routes there are, as lines for ip(8) without their verb."""

    def __init__(self, rnd):
        self.r, self.all, self.nets = rnd, [], [(0x0a400000, 10)]

    def net(self):
        """One that is in another, or around it, or next to it; or any."""
        r = self.r
        value, length = r.choice(self.nets[-60:])
        x = r.random()
        if x < 0.5:
            length = min(32, length + r.randrange(1, 9))
        elif x < 0.7:
            length = max(1, length - r.randrange(1, 9))
        elif x < 0.8:
            value, length = r.getrandbits(32), r.randrange(1, 33)
        value ^= r.getrandbits(32) & ((1 << (33 - length)) - 1)
        return value >> (32 - length) << (32 - length), length

    def add(self):
        r = self.r
        value, length = self.net()
        if value >> 28 >= 14 or value >> 24 in (0, 127):
            return []
        self.nets.append((value, length))
        kind = r.choice(list(DEVICE) + ['local', 'broadcast'] * 3)
        words = [kind, f'{ip_address(value)}/{length}']
        if r.random() < 0.2:
            words += ['tos', '0x10']
        if r.random() < 0.3:
            words += ['metric', str(r.randrange(1, 4))]
        words += [DEVICE[kind], 'table', r.choice(('local', 'local', 'local', 'main'))]
        self.all.append(' '.join(words))
        return [f'route add {self.all[-1]}']

    def remove(self):
        if not self.all:
            return []
        return [f'route del {self.all.pop(self.r.randrange(len(self.all)))}']

    def change(self):
        """Lines that some routes are added and removed with, and maybe an address."""
        out = []
        for _ in range(ROUTES):
            out += self.add() if self.r.random() < 0.6 or len(self.all) < 20 else self.remove()
        value, length = self.r.choice(self.nets[-60:])
        if 20 < length < 31 and self.r.random() < 0.5:
            addr = f'{ip_address(value + 1)}/{length}'
            out.append(f'addr {self.r.choice(("add", "add", "del"))} {addr} brd + dev eth0')
        return out

    def address(self):
        r = self.r
        if r.random() < 0.1:
            return r.choice(OWN)
        value, length = r.choice(self.nets[-60:])
        free = (1 << (32 - length)) - 1
        at = r.choice((0, free, r.getrandbits(32) & free, r.getrandbits(32) & free))
        return (value + at + r.choice((0, 0, 0, 1, -1))) & 0xffffffff

    def frame(self):
        b = pkt.Builder(False)
        src, dst = (self.address().to_bytes(4, 'big') for _ in range(2))
        port = self.r.randrange(2)
        packet = b.ip(src, dst, pkt.UDP, b.udp(src, dst, 1000, 9))
        return port, pkt.eth(MAC_R[port], MAC_P[port], 0x0800, packet)


def one_round(t, name, routers, routes):
    lines = routes.change()
    frames = [routes.frame() for _ in range(FRAMES)]
    for r in routers:
        # what is there already, or not, is so for all of them
        r.ns.run(['ip', '-force', '-batch', '-'], check=False, input='\n'.join(lines) + '\n')
        r.inject(frames)
        r.settle()
        r.captured()
    saves = [OUTPUT.sub('', r.save()) for r in routers]
    for r, save in zip(routers[1:], saves[1:]):
        bad = diff.compare_save(saves[0], save)
        t.ok(not bad, f'{name}, {r.impl.name}', '\n'.join(bad + lines))
    return saves[0]


def test(t, impls, seed, rounds, apart):
    routers = []
    try:
        for i, m in enumerate(impls):
            routers.append(Router(f'at{i}', m, False))
            if apart:	# then "local" has a trie of its own
                routers[-1].ns.ip('rule add pref 100 from 192.0.2.1 lookup main')
            routers[-1].restore(RULES)
        for r in routers[1:]:
            t.eq('\n-A' in r.kernel_rules(), False, f'{r.impl.name}: nothing is left to ip_tables')
        routes = Routes(random.Random(f'{seed}/{apart}'))
        for i in range(rounds):
            save = one_round(t, f'{"apart" if apart else "shared"}, round {i}', routers, routes)
        n, of = diff.hits(save)
        t.ok(n >= of - 4, f'{n} of {of} rules met packets')	# UNSPEC, UNREACHABLE: never
        t.eq(diff.early_stage(routers[-1]), 'drops', 'the early stage is at work')
    finally:
        diff.close(routers)


def main():
    dut.only_shim()
    t = tap.Tap()
    seed = sys.argv[1] if len(sys.argv) > 1 else '1'
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    t.diag(f'again by {sys.argv[0]} {seed} {rounds}')
    impls = dut.make()
    try:
        for apart in (False, True):
            t.guard('types', test, t, impls, seed, rounds, apart)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())

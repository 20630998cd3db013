#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 600
"""
Large random rulesets, each of a shape that lookups are made of, compared with
the kernel's own ip_tables, the early stage off and on:
diff_large_test.py [SEED [SHAPE...]].  SEED is a number, or "now".
"""
import functools
import ipaddress
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import tap

# What the packets come from and go to (lib/router.py), so that some rules are met.
NEAR = {False: ('10.71.0.2', '10.72.0.2', '10.71.0.1', '10.72.0.1'),
        True: ('fd71::2', 'fd72::2', 'fd71::1', 'fd72::1')}
PORTS = (22, 53, 80, 443, 1024, 8080, 33333)


class Shape:
    def __init__(self, seed, name, n, v6):
        self.r, self.name, self.n, self.v6 = random.Random(f'{seed}/{name}'), name, n, v6
        self.bits = 128 if v6 else 32
        self.chains = []

    def addr(self, lens, near=0.025):
        """A prefix; some have a host of the test network in it."""
        n = self.r.choice(lens)
        if self.r.random() < near:
            a = int(ipaddress.ip_address(self.r.choice(NEAR[self.v6])))
        elif self.v6:
            a = 0x2001_0db8 << 96 | self.r.getrandbits(32) << 64 | self.r.getrandbits(16)
        else:
            a = self.r.randrange(0x0b000000, 0x7f000000)
        a &= ((1 << n) - 1) << (self.bits - n)
        kind = ipaddress.IPv6Address if self.v6 else ipaddress.IPv4Address
        return f'{kind(a)}/{n}'

    def lens(self):
        return (128, 64, 48, 56, 32, 127) if self.v6 else (32, 24, 22, 16, 30, 25, 19, 12, 31, 8)

    def port(self):
        return self.r.choice(PORTS) if self.r.random() < 0.3 else self.r.randrange(1, 65536)

    def l4(self):
        p = self.r.choice(('tcp', 'udp'))
        x, a = self.r.random(), self.port()
        if x < 0.6:
            return f'-p {p} -m {p} --dport {a}'
        if x < 0.75:
            return f'-p {p} -m {p} --dport {a}:{min(65535, a + self.r.choice((1, 7, 300, 20000)))}'
        if x < 0.85:
            some = ','.join(map(str, sorted({self.port() for _ in range(4)})))
            return f'-p {p} -m multiport --dports {some}'
        return f'-p {p} -m {p} --sport {a}'

    def verdict(self):
        return '-j ' + self.r.choice(('DROP', 'DROP', 'DROP', 'ACCEPT', 'RETURN'))

    def source(self):
        return f'-s {self.addr((self.bits,))} -j DROP'

    def prefix(self):
        return f'{self.r.choice(("-s", "-s", "-d"))} {self.addr(self.lens())} {self.verdict()}'

    def tuple(self):
        return f'-d {self.addr((self.bits,), 0.1)} {self.l4()} {self.verdict()}'

    def goes_on(self):
        target = self.r.choice(('', '', '-j LOG', self.verdict(), self.verdict()))
        return f'-s {self.addr(self.lens())} {target}'.rstrip()

    def dispatch(self):
        c = f'svc{self.r.randrange(self.n // 4)}'
        if c not in self.chains:
            self.chains.append(c)
        return (f'-d {self.addr((self.bits,), 0.2)} -p tcp -m tcp --dport {self.port()} '
                f'-j {c}')

    def small(self, kind):
        """One of many chains of a few rules each."""
        c = f'{kind}{self.r.randrange(self.n // 8)}'
        if c not in self.chains:
            self.chains.append(c)
        return c

    def services(self):
        test = self.r.choice((f'-s {self.addr(self.lens(), 0.3)}', f'-d {self.addr(self.lens(), 0.3)}',
                              f'-d {self.addr((self.bits,), 0.5)} -p tcp -m tcp --dport {self.port()}'))
        return f'{test} -{self.r.choice("jjjg")} {self.small("svc")}'

    def body(self, chain):
        """The rules of one that is jumped to."""
        if self.name.split()[0] != 'services':
            return [self.r.choice((
                '-m comment --comment x', '-j RETURN', '-p tcp -m tcp --dport 443 -j DROP',
                '-j ACCEPT', f'-s {self.addr((self.bits - 8,))} -j DROP'))]
        out = []
        for _ in range(self.r.randrange(4)):
            x = self.r.random()
            if x < 0.4 and chain.startswith('svc'):
                out.append(f'{self.r.choice(("", "-p tcp"))} -{self.r.choice("jjg")} {self.small("ep")}')
            else:
                out.append(self.r.choice((
                    '-m comment --comment x', '-p tcp -m tcp --dport 443 -j DROP', '-p udp',
                    f'-s {self.addr(self.lens(), 0.4)} -j DROP', '-p icmp -j LOG',
                    f'-s {self.addr(self.lens(), 0.4)} -j RETURN',
                    f'-d {self.addr(self.lens(), 0.4)} -j ACCEPT')))
        return out + self.r.choice(([], [], ['-j ACCEPT'], ['-p tcp -j DROP']))

    def mixed(self):
        x, r = self.r.random(), self.r
        if x < 0.25:
            return self.prefix()
        if x < 0.45:
            return self.tuple()
        if x < 0.6:
            return f'-s {self.addr(self.lens())} -d {self.addr(self.lens())} {self.verdict()}'
        if x < 0.75:
            return f'-s {self.addr(self.lens())} {self.l4()} {self.verdict()}'
        if x < 0.8:
            return f'-i eth{r.randrange(3)} -s {self.addr(self.lens())} {self.verdict()}'
        if x < 0.85:
            return (f'-s {self.addr(self.lens())} -m conntrack --ctstate '
                    f'{r.choice(("NEW", "ESTABLISHED", "INVALID"))} {self.verdict()}')
        if x < 0.9:
            return self.dispatch()
        if x < 0.94:
            return f'! -s {self.addr(self.lens())} -d {self.addr(self.lens())} {self.verdict()}'
        if x < 0.97:
            return f'-s {self.addr(self.lens())}'
        return r.choice((f'-p tcp -m tcp --dport {self.port()} {self.verdict()}',
                         '-p udp -m statistic --mode nth --every 3 --packet 0',
                         f'-m mark --mark {r.randrange(3)} -s {self.addr(self.lens())} -j DROP',
                         f'-p tcp -m tcp --syn --dport {self.port()} -j LOG'))

    def text(self):
        make = getattr(self, self.name.split()[0])
        share = {'INPUT': self.n // 2, 'FORWARD': self.n // 3}
        rules = [f'-A {c} {make()}' for c, k in share.items() for _ in range(k)]
        rules += [f'-A user {make()}' for _ in range(self.n // 6)] if not self.chains else []
        for c in self.chains:		# it may grow meanwhile
            rules += [f'-A {c} {x}' for x in self.body(c)]
        head = ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]',
                ':user - [0:0]'] + [f':{c} - [0:0]' for c in self.chains]
        first = ['-A INPUT -j user', '-A FORWARD -g user']
        at = len(rules) // 4
        return '\n'.join(['# ifs: eth0 eth1'] + head + rules[:at] + first[:1] + rules[at:] +
                         first[1:] + ['COMMIT']) + '\n'


CASES = (('source', 50000, False), ('source 6', 3000, True), ('prefix', 20000, False),
         ('prefix 6', 3000, True), ('tuple', 10000, False), ('goes_on', 3000, False),
         ('dispatch', 2000, False), ('services', 2000, False), ('services 6', 2000, True),
         ('mixed', 1000, False), ('mixed 6', 1000, True),
         ('mixed large', 10000, False))


def case(seed, name, n, v6):
    c = diff.Case(f'seed {seed} {name}, {n} rules', Shape(seed, name, n, v6).text(), v6,
                  packets=600, local=20, seed=seed)
    c.consts.ifs = ['eth0', 'eth1']
    return c


def main():
    t = tap.Tap()
    word = sys.argv[1] if len(sys.argv) > 1 else '77'
    seed = int(time.time()) % 1000000 if word == 'now' else int(word)
    t.diag(f'seed {seed}: again by {sys.argv[0]} {seed}')
    cases = [functools.partial(case, seed, *c) for c in CASES
             if not sys.argv[2:] or c[0] in sys.argv[2:]]
    diff.run_cases(t, cases, dut.make(fallback='refuse'))
    return t.done()


sys.exit(main())

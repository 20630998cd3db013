#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 400
"""
Random commands on a table of some hundred rules, or thousands, one after the other, with
packets between them: after each, rules and counters are those of the kernel's own ip_tables,
the early stage off and on.  diff_edit_test.py [SEED [STEPS]]; SEED: a number, or "now"; with STEPS no thousands.
"""
import ipaddress
import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import pkt
import tap
from router import MAC_P, MAC_R, Router

STEPS = ((False, 700, 0), (True, 250, 0), (False, 40, 4200))	# v6, commands, rules besides
FRAMES = 8				# after each
IN_PART = 0.3				# at least so many of the updates are not made as a whole
IN_PLACE = 0.05				# ... and so many in the maps in force


class Rules:
    """A model of table filter, and what can be done to it."""

    def __init__(self, seed, v6, fill):
        self.r, self.v6, self.fill = random.Random(f'{seed}/{v6}'), v6, fill
        net = '2001:db8::' if v6 else '11.22.0.0'
        base = int(ipaddress.ip_address(net))
        self.hosts = [str(ipaddress.ip_address(base + i * 97)) for i in range(1, 90)]
        self.local = 'fd71::1' if v6 else '10.71.0.1'
        self.away = 'fd72::2' if v6 else '10.72.0.2'
        self.ports = (22, 53, 80, 81, 82, 83, 443, 8080)
        self.chains = {'INPUT': [], 'FORWARD': [], 'user': [], 'on': []}
        self.late = []			# rules of late steps: packets are drawn from them

    def host(self):
        return self.r.choice(self.hosts)

    def prefix(self):
        n = self.r.choice((64, 112, 120, 125) if self.v6 else (16, 24, 28, 30))
        return ipaddress.ip_network(f'{self.host()}/{n}', strict=False).with_prefixlen

    def l4(self):
        return f'-p {self.r.choice(("tcp", "udp"))}', str(self.r.choice(self.ports))

    def verdict(self):
        return '-j ' + self.r.choice(('DROP', 'DROP', 'ACCEPT', 'RETURN', 'REJECT'))

    def rule(self, chain):
        x, r = self.r.random(), self.r
        proto, port = self.l4()
        if x < 0.35:
            return f'-s {self.host()} {self.verdict()}'
        if x < 0.6:
            return f'-s {self.host()} {proto} --dport {port} {self.verdict()}'
        if x < 0.7:
            return f'{proto} --dport {port} {self.verdict()}' if r.random() < 0.1 else \
                f'-s {self.host()} {proto} --sport {port} {self.verdict()}'
        if x < 0.75:
            return f'-s {self.host()} {proto} -m multiport --dports {port},1000,2000:2003 -j DROP'
        if x < 0.8:
            return f'-s {self.host()} {proto} --dport {port}:{int(port) + 9} {self.verdict()}'
        if x < 0.88 and chain != 'INPUT':
            return f'-s {self.prefix()} {self.verdict()}'
        if x < 0.9:
            return f'-s {self.host()} -m conntrack --ctstate NEW {self.verdict()}'
        if x < 0.92 and chain in ('INPUT', 'FORWARD'):
            return f'-s {self.host()} -j {r.choice(("user", "on"))}'
        if chain == 'on':
            return f'-s {self.prefix()}'
        if x < 0.94:
            return f'! -s {self.host()} {proto} --dport {port} -i eth1 -j DROP'
        return f'-s {self.host()} -j DROP'

    def start(self):
        out = ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]',
               ':user - [0:0]', ':on - [0:0]', ':fill - [0:0]']
        out += [f'-A fill -s 12.{i >> 8}.{i & 255}.1 -j DROP' for i in range(self.fill)]
        for c, n in (('INPUT', 220), ('FORWARD', 60), ('user', 40), ('on', 30)):
            for _ in range(n):
                self.add(out, c, len(self.chains[c]))
        return '\n'.join(out + ['COMMIT']) + '\n'

    def add(self, out, chain, at):
        rule = self.rule(chain)
        self.chains[chain].insert(at, rule)
        self.late = (self.late + [rule])[-12:]
        out.append(f'-A {chain} {rule}' if at == len(self.chains[chain]) - 1 else
                   f'-I {chain} {at + 1} {rule}')

    def change(self, out):
        """One -A, -I, -D or -R."""
        c = self.r.choices(list(self.chains), (12, 3, 2, 1))[0]
        rules, x = self.chains[c], self.r.random()
        at = self.r.randrange(len(rules)) if rules else 0
        if not rules or x < 0.35:
            self.add(out, c, len(rules))
        elif x < 0.55:
            self.add(out, c, at)
        elif x < 0.6:		# twice the same
            self.chains[c].append(rules[at])
            out.append(f'-A {c} {rules[-1]}')
        elif x < 0.85:
            self.late = (self.late + [rules[at]])[-12:]
            if self.r.random() < 0.5:
                at = rules.index(rules[at])
                out.append(f'-D {c} {rules.pop(at)}')
            else:
                rules.pop(at)
                out.append(f'-D {c} {at + 1}')
        else:
            rules[at] = self.rule(c)
            self.late = (self.late + [rules[at]])[-12:]
            out.append(f'-R {c} {at + 1} {rules[at]}')

    def step(self, n):
        """(arguments of iptables, or None; text for iptables-restore -n)"""
        x, out = self.r.random(), []
        if x < 0.8:
            self.change(out)
        elif x < 0.85:
            c = self.r.choice(list(self.chains))
            out = [self.r.choice(('-Z', f'-Z {c}', f'-Z {c} {self.r.randrange(len(self.chains[c]) + 1)}'))]
        elif x < 0.87:
            out = [f'-P {self.r.choice(("INPUT", "FORWARD"))} {self.r.choice(("ACCEPT", "DROP"))}']
        elif x < 0.89:
            out = [f'-N new{n}']
        elif x < 0.91:
            out = ['-X ' + self.r.choice(('user', f'new{n - 1}', 'nothing'))]
        elif x < 0.93:		# refused by the target
            out = [f'-A INPUT -s {self.host()} -j REJECT --reject-with '
                   + ('tcp-reset' if self.r.random() < 0.8 else 'icmp6-no-route')]
        elif x < 0.935:
            self.chains['on'] = []
            out = ['-F on']
        else:
            for _ in range(self.r.randrange(1, 5)):
                self.change(out)
            if self.r.random() < 0.2:
                out.insert(0, f':fresh{n} - [0:0]')
                out.append(f'-A fresh{n} -s {self.host()} -j DROP')
            return None, '\n'.join(['*filter', *out, 'COMMIT']) + '\n'
        return out[0].split(), None

    def frame(self, b):
        """What a rule of late steps, or any, may be met by; some with too short a header."""
        rule = self.r.choice(self.late) if self.r.random() < 0.8 else f'-s {self.host()}'
        m = re.search(r'(?<!! )-s (\S+)', rule)
        src = m.group(1) if m else self.host()
        if '/' in src:
            net = ipaddress.ip_network(src)
            src = str(net[self.r.randrange(1, min(net.num_addresses, 200))])
        m = re.search(r'--([ds])ports? (\d+)', rule)
        ports = [self.r.choice(self.ports) for _ in range(2)]
        if m and self.r.random() < 0.8:
            ports[m.group(1) == 'd'] = int(m.group(2)) + self.r.choice((0, 0, 0, 1))
        dst = self.local if self.r.random() < 0.75 else self.away
        proto = pkt.TCP if '-p tcp' in rule or self.r.random() < 0.2 else pkt.UDP
        make = b.tcp if proto == pkt.TCP else b.udp
        seg = make(src, dst, *ports)
        if self.r.random() < 0.05:
            seg = seg[:self.r.choice((2, 6))]
        return 0, pkt.pad(pkt.eth(MAC_R[0], MAC_P[0], b.ethertype, b.ip(src, dst, proto, seg)))


class Sequence:
    def __init__(self, seed, v6, fill, impls):
        self.name = f'seed {seed} {"IPv6" if v6 else "IPv4"}{f" {fill} rules more" if fill else ""}'
        self.rules, self.impls = Rules(seed, v6, fill), impls
        self.routers = [None if m.absent else Router(f'e{i}', m, v6) for i, m in enumerate(impls)]
        self.b = pkt.Builder(v6)

    def all(self, key, fn):
        """What fn(router) returns, of each implementation."""
        return [m.result((self.name, key), lambda _, r=r: fn(r))
                for m, r in zip(self.impls, self.routers)]

    def inject(self, frames):
        for r in filter(None, self.routers):
            r.inject(frames)

    def command(self, n, args, text):
        """The exit statuses."""
        def one(r):
            got = r.restore(text, '-n', check=False) if text else r.firewall(*args, check=False)
            return got.returncode
        return self.all(f'command {n}', one)

    def differences(self, n, status):
        out = [] if len(set(status)) == 1 else [f'exit status {status}']
        saves = self.all(f'save {n}', Router.save)
        for m, save in zip(self.impls[1:], saves[1:]):
            out += [f'{m.name}: {d}' for d in diff.compare_save(saves[0], save)]
        return out

    def run(self, steps):
        """(step and command of the first difference, differences), or None."""
        start = self.rules.start()
        status = self.all('start', lambda r: r.restore(start).returncode)
        what = 'the start'
        for n in range(steps):
            self.inject([self.rules.frame(self.b) for _ in range(FRAMES)])
            found = self.differences(n, status)
            if found:
                return f'after {what}', found
            args, text = self.rules.step(n)
            what = f'step {n}: {args or text}'
            status = self.command(n, args, text)
        return None

    def frames(self):
        """What has come out of each, compared with the first."""
        case = type('', (), dict(v6=self.rules.v6, nat=False))
        got = self.all('frames', Router.captured)
        return [d for g in got[1:] for d in diff.compare_frames(case, got[0], g)]

    def close(self):
        for r in filter(None, self.routers):
            r.close()


def in_part(router):
    """Updates, those that were changes of what was there, and of these, those in its maps."""
    text = router.ns.run(router.impl.xtjit('status'), env=router.impl.env()).stdout
    m = re.search(r'rulesets (\d+) \((\d+) changed in part, (\d+) of them in place\)', text)
    return [int(x) for x in m.groups()]


def sequence(t, seed, v6, steps, fill, impls):
    s = Sequence(seed, v6, fill, impls)
    name = f'{s.name}, {steps} commands'
    router = s.routers[-1]
    try:
        before = in_part(router) if router.impl.real else None
        found = s.run(steps)
        frames = s.frames()
        if not router.impl.real:
            return
        t.ok(not found, f'{name}: rules and counters after each',
             '\n'.join([found[0]] + found[1][:8]) if found else '')
        t.ok(not frames, f'{name}: what came through', '\n'.join(frames[:8]))
        all_, part, place = (b - a for a, b in zip(before, in_part(router)))
        t.ok(part >= all_ * IN_PART, f'{name}: {part} of {all_} updates in part')
        # to the module REJECT is a native target, and where a group has some, counters have no gaps
        if v6 or not router.impl.module:
            t.ok(place >= all_ * IN_PLACE, f'{name}: {place} of {all_} updates in place')
    finally:
        s.close()


def main():
    t = tap.Tap()
    word = sys.argv[1] if len(sys.argv) > 1 else '5'
    seed = int(time.time()) % 1000000 if word == 'now' else int(word)
    t.diag(f'seed {seed}: again by {sys.argv[0]} {seed}')
    impls = dut.make(fallback='refuse')
    try:
        for v6, steps, fill in STEPS:
            if len(sys.argv) > 2:
                if fill:
                    continue
                steps = int(sys.argv[2])
            t.guard(f'v6 {v6}', sequence, t, seed, v6, steps, fill, impls)
    finally:
        impls[-1].close()
    return t.done()


if __name__ == '__main__':
    sys.exit(main())

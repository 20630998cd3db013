#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
What a change of a ruleset takes by the stock commands: the kernel's own ip_tables
and xtjit behind the shim, in turn, each in a namespace of its own.  Medians in ms
of the whole command, and their ratio; the same of the processor time that it takes
(the helper's with it), which others on the machine change less; the helper's part.

    update.py [--rounds N] [--max RULES] [--shape NAME]... [--early on|off]
"""
import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
from netns import Netns

SIZES = (10, 1000, 10000, 100000)
SERVICES = 5000


def address(net, i):
    return f'{net}.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}'


def source(i):
    return ['-s', address(11, i * 7), '-j', 'DROP']


def port(i):
    return ['-s', address(11, i * 7), '-p', 'tcp', '-m', 'tcp', '--dport', str(i % 60000 + 1),
            '-j', 'DROP']


def flat(rule, n, turn=0):
    """@n rules, others with each turn."""
    return ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]',
            *('-A INPUT ' + ' '.join(rule(i + turn * 200003)) for i in range(n)), 'COMMIT']


def service(i, turn=0):
    """The chains of a service with two endpoints, which move with each turn."""
    heads = [f':KUBE-SVC-{i} - [0:0]'] + [f':KUBE-SEP-{i}-{e} - [0:0]' for e in 'ab']
    rules = [f'-A KUBE-SVC-{i} -m statistic --mode random --probability 0.5 -j KUBE-SEP-{i}-a',
             f'-A KUBE-SVC-{i} -j KUBE-SEP-{i}-b']
    for n, e in enumerate('ab'):
        rules += [f'-A KUBE-SEP-{i}-{e} -s {address(10, i * 4 + n + turn * 100000)}/32 -j DROP',
                  f'-A KUBE-SEP-{i}-{e} -p tcp -m tcp -j ACCEPT']
    return heads, rules


def kube(n):
    heads, rules = [], ['-A INPUT -j KUBE-SERVICES', '-A FORWARD -j KUBE-SERVICES']
    for i in range(n):
        rules.append(f'-A KUBE-SERVICES -d {address(10, (i + 1) << 8)}/32 -p tcp -m tcp '
                     f'--dport {80 + i % 9} -j KUBE-SVC-{i}')
        h, r = service(i)
        heads += h
        rules += r
    return ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]',
            ':KUBE-SERVICES - [0:0]', *heads, *rules, 'COMMIT']


def children():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


class Side:
    """A namespace with ip_tables, or with xtjit."""

    def __init__(self, impl, early):
        self.ns, self.impl = Netns('bu'), impl
        self.env = dict(os.environ)
        if impl:
            impl.cookies.append(self.ns.cookie)
            self.env.update(LD_PRELOAD=os.path.join(dut.BUILD, 'libxtjit-shim.so'),
                            XTJIT_SOCKET=impl.base.socket, XTJIT_EARLY=early,
                            XTJIT_FALLBACK='refuse')

    def time(self, cmd, text=None):
        """(ms of the command, ms of processor time, ms of that by the helper)"""
        data = text.encode() if text else None
        with self.ns:
            cpu, own, start = self.cpu(), children(), time.perf_counter()
            r = subprocess.run(cmd, input=data, env=self.env, stderr=subprocess.PIPE)
            end = time.perf_counter()
        if r.returncode:
            sys.exit(f'{cmd}: {r.stderr.decode()[:300]}')
        helper = self.cpu() - cpu
        return (end - start) * 1000, (children() - own + helper) * 1000, helper * 1000

    def cpu(self):
        if not self.impl:
            return 0
        with open(f'/proc/{self.impl.pid()}/schedstat') as f:
            return int(f.read().split()[0]) / 1e9


class Table:
    def __init__(self, sides, rounds):
        self.sides, self.rounds = sides, rounds
        print(f'{"":32}{"ip_tables":>10}{"xtjit":>9}{"ratio":>7}'
              f'{"cpu":>9}{"xtjit":>9}{"ratio":>7}{"helper":>9}', flush=True)

    def row(self, name, commands, rounds=None):
        """@commands(round): one (command, text); timed on both sides in turn."""
        got = [[], []]
        for n in range(rounds or self.rounds):
            cmd = commands(n)
            for side, out in zip(self.sides, got):
                out.append(side.time(*cmd))
        ms, cpu, helper = ([statistics.median(x[k] for x in g) for g in got] for k in range(3))
        print(f'{name:32}{ms[0]:10.2f}{ms[1]:9.2f}{ms[1] / ms[0]:7.2f}'
              f'{cpu[0]:9.2f}{cpu[1]:9.2f}{cpu[1] / cpu[0]:7.2f}{helper[1]:9.2f}', flush=True)

    def restore(self, name, lines, rounds=3):
        """@lines(round)"""
        self.row(name, lambda n: (['iptables-legacy-restore'], '\n'.join(lines(n)) + '\n'),
                 rounds)


def ipt(*args):
    return ['iptables-legacy', *args], None


def rules(t, name, rule, n):
    t.restore(f'{name} {n}: restore', lambda k: flat(rule, n, 2 - k))
    base = n + 1
    t.row(f'{name} {n}: -A', lambda k: ipt('-A', 'INPUT', *rule(base + k)))
    t.row(f'{name} {n}: -D', lambda k: ipt('-D', 'INPUT', *rule(base + k)))
    t.row(f'{name} {n}: -I', lambda k: ipt('-I', 'INPUT', *rule(base + k)))
    t.row(f'{name} {n}: -D first', lambda k: ipt('-D', 'INPUT', '1'))
    t.row(f'{name} {n}: -I middle', lambda k: ipt('-I', 'INPUT', str(n // 2), *rule(base + k)))
    t.row(f'{name} {n}: -R middle', lambda k: ipt('-R', 'INPUT', str(n // 2), *rule(base + k)))
    t.row(f'{name} {n}: -Z', lambda k: ipt('-Z'))


def services(t):
    t.restore(f'kube {SERVICES}: restore', lambda k: kube(SERVICES - k))

    def one(k):
        heads, lines = service(k * 37 % SERVICES, k + 1)
        text = '\n'.join(['*filter', *heads, *lines, 'COMMIT']) + '\n'
        return ['iptables-legacy-restore', '-n'], text

    def more(k):
        i = SERVICES + k
        heads, lines = service(i)
        lines.insert(0, f'-A KUBE-SERVICES -d {address(10, (i + 1) << 8)}/32 -p tcp -m tcp '
                        f'--dport 80 -j KUBE-SVC-{i}')
        return ['iptables-legacy-restore', '-n'], '\n'.join(['*filter', *heads, *lines,
                                                              'COMMIT']) + '\n'
    t.row(f'kube {SERVICES}: -n, one changed', one)
    t.row(f'kube {SERVICES}: -n, one more', more)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--max', type=int, default=100000)
    p.add_argument('--min', type=int, default=10)
    p.add_argument('--shape', action='append')
    p.add_argument('--early', default='off')
    a = p.parse_args()
    shapes = a.shape or ['source', 'port', 'kube']
    impl = dut.Xtjit(early=a.early)
    sides = [Side(None, a.early), Side(impl, a.early)]
    try:
        t = Table(sides, a.rounds)
        for name, rule in (('source', source), ('port', port)):
            for n in SIZES:
                if name in shapes and a.min <= n <= a.max:
                    rules(t, name, rule, n)
        if 'kube' in shapes:
            services(t)
    finally:
        for s in sides:
            s.ns.delete()
        impl.close()


if __name__ == '__main__':
    main()

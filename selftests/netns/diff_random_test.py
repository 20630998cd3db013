#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
"""
Random rulesets, half of them IPv6: diff_random_test.py [SEED [COUNT]].  Compared
with the kernel's own ip_tables, the early stage off and on; few may be left to it.
SEED is a number, or "now".
"""
import functools
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import genrules
import tap


def case(seed, i):
    rnd = random.Random(f'{seed}/{i}')
    v6 = i % 2 == 1
    text = '# ifs: eth0 eth1\n' + genrules.Rules(rnd, v6, rnd.choice((10, 40, 120))).text()
    c = diff.Case(f'seed {seed}/{i} v{6 if v6 else 4}', text, v6, packets=700, seed=seed)
    c.consts.ifs = ['eth0', 'eth1']
    return c


def seed_of(word):
    return int(time.time()) % 1000000 if word == 'now' else int(word)


def main():
    t = tap.Tap()
    seed = seed_of(sys.argv[1] if len(sys.argv) > 1 else '777')
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 80
    t.diag(f'seed {seed}: again by {sys.argv[0]} {seed} {count}')
    met = left = 0

    def after(c, save):
        nonlocal met, left
        met += diff.hits(save)[0]
        left += c.left

    cases = [functools.partial(case, seed, i) for i in range(count)]
    diff.run_cases(t, cases, dut.make(fallback='kernel'), after)
    t.ok(met > count * 5, f'{met} rules met packets')
    t.ok(left * 20 <= count, f'{left} of {count} rulesets have a table that is left to ip_tables')
    return t.done()


sys.exit(main())

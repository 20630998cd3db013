#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
xtjit side by side with XDP's limit, ip_tables, nftables and ipset, on this machine.

Tables go to stdout; results.csv, plots (SVG) and one page with all of it (index.html)
into build/bench.  See net.py for how packets are made and counted.

    bench.py [--quick] [--only PART,...] [--corpus DIR] [-o DIR]
    bench.py --check

--check: only whether xtjit's one DROP rule has 0.8 of the limit, and its ten rules and
ACCEPT 0.95 of ip_tables: else exit status 1.
"""
import argparse
import os
import platform
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../lib'))
import alone
import check
import dut
import page
import paths
import rates
import shapes
import updates

FULL = [1, 10, 100, 1000, 10000, 100000, 1000000]
# cl_limits_default: from 6 on rules are a family, from 10 on a group; from 64 on chains merge
AROUND, AROUND_CHAINS = [5, 6, 7, 9, 11, 20], [63, 64]
PARTS = ('rate', 'alone', 'path', 'update')


class Options:
    """How much of each part."""

    def __init__(self, quick):
        if quick:
            sizes = dict(source=[1, 100, 10000, 100000], port=[1, 10000], mixed=[100, 10000],
                         services=[5000])
            self.plan = rates.Plan(sizes, 1, 3, 0.03, 3, 1 << 15)
            self.alone = ([100, 10000], 1, 20)
            self.path = dict(sizes=[10, 10000], rounds=3, seconds=0.05, count=1000, limit=5)
            self.update = dict(sizes=[1000, 10000], services=[5000], rounds=3, limit=5)
        else:
            sizes = dict(source=FULL, port=FULL, mixed=FULL, services=[*AROUND_CHAINS, 5000])
            self.plan = rates.Plan(sizes, 3, 3, 0.04, 40, 1 << 17)
            self.alone = (sorted(FULL + AROUND), 3, 60)
            self.path = dict(sizes=[10, 1000, 10000], rounds=15, seconds=0.1, count=5000, limit=15)
            self.update = dict(sizes=[1000, 10000, 100000], services=[5000], rounds=7, limit=15)
        self.corpus = 2 if quick else 3


def measure(o, impls, parts, corpus, show):
    out = []
    if 'rate' in parts:
        out += rates.run(o.plan, impls, corpus, show)
    if 'alone' in parts:
        out += alone.run(*o.alone, show)
    if 'path' in parts:
        out += paths.run(impls, **o.path, report=show)
    if 'update' in parts:
        out += updates.run(impls, **o.update, report=show)
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--quick', action='store_true', help='a part of it, in three minutes')
    a.add_argument('--only', default=','.join(PARTS), metavar='PART,...', help=', '.join(PARTS))
    a.add_argument('--corpus', default=os.path.join(HERE, '../../../shared/corpus/rules'),
                   metavar='DIR', help='of rulesets, whose largest are measured')
    a.add_argument('--check', action='store_true')
    a.add_argument('-o', default=os.path.join(dut.BUILD, 'bench'), metavar='DIR')
    o = a.parse_args()
    if set(o.only.split(',')) - set(PARTS):
        a.error(f'parts are {", ".join(PARTS)}')
    with tempfile.TemporaryDirectory(prefix='xtjit-bench.') as d:
        # Who else uses iptables on this machine is not to be waited for.
        os.environ['XTABLES_LOCKFILE'] = os.path.join(d, 'lock')
        impls = dut.make()
        try:
            return check.run(impls) if o.check else full(o, impls)
        finally:
            impls[-1].close()


def full(o, impls):
    options, start = Options(o.quick), time.monotonic()
    corpus = shapes.largest(o.corpus, options.corpus) if os.path.isdir(o.corpus) else []

    def show(rows):
        print(f'[{time.monotonic() - start:.0f} s]\n{page.plain(rows)}', flush=True)
    rows = measure(options, impls, o.only.split(','), corpus, show)
    head = [f'Linux {platform.release()}, {os.cpu_count()} CPUs of {cpu_name()}; '
            f'{(time.monotonic() - start) / 60:.0f} minutes']
    if not corpus:
        head.append(f'Rulesets of the corpus are left out: there is no {o.corpus}.')
    page.write(rows, o.o, head)
    print('\n'.join(head), f'{o.o}/index.html', sep='\n')
    return 0


def cpu_name():
    with open('/proc/cpuinfo') as f:
        return next((x.split(':')[1].strip() for x in f if x.startswith('model name')), '?')


if __name__ == '__main__':
    sys.exit(main())

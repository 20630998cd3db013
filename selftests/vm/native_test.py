#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 1200
"""
Rulesets (vm/rules/*.v4, *.v6, or those named as arguments) of what the kernel's own
extensions do for the module: nat, matches and targets without a compiled form.  A
ruleset that says "# nft: no" has what iptables-nft does otherwise.
"""
import functools
import glob
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../lib'))
import diff
import dut
import tap


def wanted(path, nft):
    with open(path) as f:
        return not nft or '\n# nft: no' not in f.read()


def main():
    t = tap.Tap()
    impls = dut.make()
    files = sys.argv[1:] or sorted(glob.glob(os.path.join(HERE, 'rules/*.v[46]')))
    files = [f for f in files if wanted(f, not impls[0].exact)]
    met = total = run = 0

    def count(case, save):
        nonlocal met, total, run
        n, of = diff.hits(save)
        met, total, run = met + n, total + of, run + 1

    cases = [functools.partial(diff.Case.file, f, packets=800, local=60) for f in files]
    diff.run_cases(t, cases, impls, count)
    if os.environ.get('XTJIT_DUT') != 'traffic':
        t.ok(run == len(files), f'{run} of {len(files)} rulesets are for the reference')
        t.ok(met * 100 >= total * 85, f'{met} of {total} rules met packets')
    return t.done()


sys.exit(main())

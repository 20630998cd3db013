#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 600
"""
Own rulesets (rules/*.v4, *.v6, or those named as arguments), which cover every
compiled extension and target: compared with the kernel's own ip_tables, the early
stage off and on, and none may be refused.  Nearly all rules must have met packets.
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


def main():
    t = tap.Tap()
    files = sys.argv[1:] or sorted(glob.glob(os.path.join(HERE, 'rules/*.v[46]')))
    met = total = 0

    def count(case, save):
        nonlocal met, total
        n, of = diff.hits(save)
        met, total = met + n, total + of

    cases = [functools.partial(diff.Case.file, f, packets=1500, local=120) for f in files]
    diff.run_cases(t, cases, dut.make(fallback='refuse'), count)
    t.ok(met * 100 >= total * 90, f'{met} of {total} rules met packets')
    return t.done()


sys.exit(main())

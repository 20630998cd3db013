#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 1500
"""
The rulesets of the corpus ($XTJIT_CORPUS, ../shared/corpus), or those named as
arguments: each restored, saved, and compared with the kernel's own ip_tables
counter by counter, the early stage off and on.  $XTJIT_SAMPLE=N: every Nth of them.
"""
import functools
import glob
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import tap

CORPUS = os.environ.get('XTJIT_CORPUS') or os.path.join(dut.ROOT, '../shared/corpus')


def main():
    t = tap.Tap()
    files = sys.argv[1:] or sorted(glob.glob(os.path.join(CORPUS, 'rules', '*.v[46]')))
    if not files:
        t.skip('corpus', f'no rulesets in {CORPUS}')
        return t.done()
    files = files[::int(os.environ.get('XTJIT_SAMPLE', '1'))]
    cases = [functools.partial(diff.Case.file, f, packets=500, local=24) for f in files]
    diff.run_cases(t, cases, dut.make(fallback='kernel'))
    return t.done()


sys.exit(main())

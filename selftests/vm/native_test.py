#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 1200
"""
Rulesets (vm/rules/*.v4, *.v6, or those named as arguments) of what the kernel's own
extensions do for the module: nat, matches and targets without a compiled form.  A
ruleset that says "# nft: no" has what iptables-nft does otherwise.  And services, as
kube-proxy has them: so many chains that they are merged.
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


def services(n):
    near, far, here = '10.71.0.2', '10.72.0.2', '10.71.0.1'
    each = range(n)
    rules = ['-A PREROUTING -j SERVICES', '-A mark -j MARK --set-xmark 0x4000/0x4000',
             '-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE']
    rules += [f'-A SERVICES -d {here}/32 -p tcp -m tcp --dport {8000 + i} -j SVC{i}' for i in each]
    for i in each:
        one = '-m statistic --mode random --probability 1.00000000000 ' if i % 3 else ''
        rules += [f'-A SVC{i} -s {near}/32 -j mark', f'-A SVC{i} {one}-j SEP{i}',
                  f'-A SEP{i} -s {far}/32 -j mark',
                  f'-A SEP{i} -p tcp -m tcp -j DNAT --to-destination {far}:{9000 + i}']
    heads = [f':{kind}{i} - [0:0]' for kind in ('SVC', 'SEP') for i in each]
    return '\n'.join(['# ifs: eth0 eth1', '*nat', ':SERVICES - [0:0]', ':mark - [0:0]', *heads,
                      *rules, 'COMMIT']) + '\n'


def main():
    t = tap.Tap()
    impls = dut.make()
    files = sys.argv[1:] or sorted(glob.glob(os.path.join(HERE, 'rules/*.v[46]')))
    files = [f for f in files if wanted(f, not impls[0].exact)]
    met = total = run = 0

    def count(case, save):
        nonlocal met, total, run
        n, of = diff.hits(save)
        run += 1
        if case.name != 'services':		# it has more rules than there are packets for
            met, total = met + n, total + of

    cases = [functools.partial(diff.Case.file, f, packets=800, local=60) for f in files]
    if not sys.argv[1:]:
        cases.append(lambda: diff.Case('services', services(80), False, packets=1500))
    diff.run_cases(t, cases, impls, count)
    if os.environ.get('XTJIT_DUT') != 'traffic':
        t.ok(run == len(cases), f'{run} of {len(cases)} rulesets are for the reference')
        t.ok(met * 100 >= total * 85, f'{met} of {total} rules met packets')
    return t.done()


sys.exit(main())

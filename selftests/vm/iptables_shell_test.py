#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
"""
iptables' own iptables/tests/shell (of its source package: vm/sources), legacy mode.
What passes with the kernel's own ip_tables passes with xtjit.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import tap

TESTS = os.path.join(dut.ROOT, 'build/vm/src/iptables/iptables/tests/shell')


def play(impl):
    """{script: it passed}"""
    r = subprocess.run(['./run-tests.sh', '--host', '--legacy'], cwd=TESTS, capture_output=True,
                       text=True)
    return {m.group(2): m.group(1) == 'OK' for m in
            re.finditer(r'\[(OK|FAILED)\]\s+\S*testcases/(\S+?_\d+)', r.stdout + r.stderr)}


def why(script):
    """The last words of a script that failed, run once more."""
    env = dict(os.environ, XT_MULTI='xtables-legacy-multi')
    r = subprocess.run(['unshare', '-n', f'{TESTS}/testcases/{script}'], cwd=TESTS, env=env,
                       capture_output=True, text=True)
    return (r.stdout + r.stderr)[-600:]


def main():
    t = tap.Tap()
    impls = dut.make(early=('on',))
    want, *rest = [m.result('shell', play) for m in impls]
    print(f'# note: iptables/tests/shell: ip_tables passes {sum(want.values())} of {len(want)}')
    t.ok(len(want) > 40, f'{len(want)} scripts')
    for impl, got in zip(impls[1:], rest):
        print(f'# note: iptables/tests/shell: xtjit passes {sum(got.values())} of {len(got)}')
        for script, passed in sorted(want.items()):
            good = got.get(script) or not passed
            t.ok(good, f'{impl.name} {script}{"" if passed else ": fails with ip_tables, too"}',
                 '' if good else why(script))
    impls[-1].close()
    return t.done()


sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
"""
iptables' own iptables-test.py (of its source package: vm/sources), legacy mode.  What
passes with the kernel's own ip_tables passes with xtjit.
"""
import glob
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import tap

SOURCE = os.path.join(dut.ROOT, 'build/vm/src/iptables')
WORKERS = 2


def run_part(files, i):
    """{file: {line: reason}} of what failed; (cases, passed)"""
    env = dict(os.environ, XTABLES_LOCKFILE=f'/tmp/xtables-{i}.lock')
    r = subprocess.run([sys.executable, 'iptables-test.py', '-H', '-l'] + files, cwd=SOURCE,
                       env=env, capture_output=True, text=True)
    bad = {f: {} for f in files}
    for m in re.finditer(r'^(\S+): ERROR: line (\d+) \((.*)\)$', r.stderr, re.M):
        bad[m.group(1)][int(m.group(2))] = m.group(3)
    total = re.search(r'(\d+) unit tests, (\d+) passed', r.stdout)
    if not total:
        raise RuntimeError(f'status {r.returncode}: {(r.stdout + r.stderr)[-500:]}')
    return bad, (int(total.group(1)), int(total.group(2)))


def play(impl):
    files = sorted(os.path.relpath(f, SOURCE) for f in glob.glob(f'{SOURCE}/extensions/*.t'))
    files = [f for f in files if not re.search('lib(arp|eb)t_', f)]
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(run_part, (files[i::WORKERS] for i in range(WORKERS)),
                              range(WORKERS)))
    bad = {f: lines for part, _ in parts for f, lines in part.items()}
    return bad, tuple(map(sum, zip(*(n for _, n in parts))))


def main():
    t = tap.Tap()
    impls = dut.make(early=('on',))
    (want, ref), *rest = [m.result('iptables-test.py', play) for m in impls]
    print(f'# note: iptables-test.py: ip_tables passes {ref[1]} of {ref[0]}')
    for impl, (bad, n) in zip(impls[1:], rest):
        print(f'# note: iptables-test.py: xtjit passes {n[1]} of {n[0]}')
        for f in sorted(want):
            more = {line: why for line, why in bad[f].items() if line not in want[f]}
            t.ok(not more, f'{impl.name} {os.path.basename(f)}: {len(want[f])} fail with ip_tables',
                 '\n'.join(f'line {line}: {why}' for line, why in more.items()))
        t.ok(n[1] >= ref[1] and n[0] == ref[0], f'{impl.name}: {n[1]} of {n[0]} pass',
             f'ip_tables: {ref[1]} of {ref[0]}')
    impls[-1].close()
    return t.done()


sys.exit(main())

# SPDX-License-Identifier: GPL-2.0
"""The early program alone, by BPF_PROG_TEST_RUN with random keys: what lookup.c measures."""
import os
import re
import statistics
import subprocess

import dut

LINE = re.compile(r'^(\w+) +(\d+) +(-?[\d.]+) ns ')


def once(shape, sizes, limit):
    """{size: ns a packet beyond parsing and dropping}"""
    r = subprocess.run([os.path.join(dut.BUILD, 'test/bench/lookup'), shape, *map(str, sizes)],
                       capture_output=True, text=True, timeout=limit)
    return {int(m.group(2)): float(m.group(3)) for m in map(LINE.match, r.stdout.splitlines())
            if m}


def run(sizes, runs, limit, report):
    rows = []
    for shape in ('source', 'port', 'prefix', 'mixed'):
        done = []
        for n in sizes:
            row = dict(part='alone', shape=shape, n=n, what='beyond parse and drop',
                       peer='xtjit')
            try:
                values = [once(shape, [n], limit).get(n) for _ in range(runs)]
            except subprocess.TimeoutExpired:
                values = [None]
            if None in values:
                row['note'] = f'left out: not measured within {limit:g} s'
            else:
                row.update(value=statistics.median(values), unit='ns')
            done.append(row)
        report(done)
        rows += done
    return rows

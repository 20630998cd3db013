# SPDX-License-Identifier: GPL-2.0
"""What the kernel holds: BPF objects, memory, processes' and namespaces' things."""
import os
import struct
from collections import Counter

import bpfsys
import dut

NEXT_ID = dict(prog=11, map=12, link=31)


def bpf_objects():
    """{kind: number} of all there are."""
    out = {}
    for kind, cmd in NEXT_ID.items():
        n, start = 0, 0
        while True:
            attr = bytearray(struct.pack('<III', start, 0, 0).ljust(64, b'\0'))
            try:
                start = bpfsys.next_id(cmd, attr)
            except OSError:
                break
            n += 1
        out[kind] = n
    return out


def memory():
    """kB: slab that cannot be reclaimed, per-CPU memory, vmalloc areas."""
    out = {}
    with open('/proc/meminfo') as f:
        for line in f:
            key, value = line.split(':')
            if key in ('SUnreclaim', 'Percpu'):
                out[key] = int(value.split()[0])
    out['vmalloc'] = sum(vmalloc().values())
    return out


def vmalloc():
    """{who allocated it: kB}"""
    out = Counter()
    with open('/proc/vmallocinfo') as f:
        for line in f:
            words = line.split()
            if words[2:3] != ['unpurged']:	# freed, but not given back yet
                out[words[2] if len(words) > 2 else '?'] += int(words[1]) >> 10
    return out


class Watch:
    """What is held, from now on."""

    def __init__(self, tap, label):
        self.tap, self.label = tap, label
        settle()
        self.objects, self.memory, self.vmalloc = bpf_objects(), memory(), vmalloc()

    def check(self, slack_kb=2048, objects=0):
        t = self.tap
        dut.wait(lambda: self.grown() <= objects, 15)
        t.ok(self.grown() <= objects, f'{self.label}: BPF objects',
             f'{self.objects}, then {bpf_objects()}')
        dut.wait(lambda: self.more() <= slack_kb, 10)
        t.ok(self.more() <= slack_kb, f'{self.label}: kernel memory: {self.more()} kB more',
             f'{self.memory}, then {memory()}; vmalloc: {vmalloc() - self.vmalloc}')

    def grown(self):
        now = bpf_objects()
        return max(now[k] - n for k, n in self.objects.items())

    def more(self):
        now = memory()
        return max(now[k] - n for k, n in self.memory.items())


def settle():
    """Caches that come and go do so now."""
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('3')

# SPDX-License-Identifier: GPL-2.0
"""
Times of whole commands by the stock tools, and what rulesets take of the kernel's memory.
"""
import os
import statistics
import struct

import bpfsys
import leak
import net
import peers
import shapes
from peers import Left

ADDED = '203.0.113.9'		# no rule is about it
MAP_BY_ID, PROG_BY_ID = 14, 13
BLOB = 'blob'


def next_ids(kind):
    out, at = [], 0
    while True:
        try:
            at = bpfsys.next_id(leak.NEXT_ID[kind],
                                bytearray(struct.pack('<III', at, 0, 0).ljust(64, b'\0')))
        except OSError:
            return out
        out.append(at)


def map_name(fd):
    info = bytearray(128)
    bpfsys.object_info(fd, info)
    return bytes(info[24:40]).split(b'\0')[0].decode()


def bpf_memory():
    """{(kind, id): (bytes, it is a retained blob)} of all maps and programs."""
    out = {}
    for kind, cmd in (('map', MAP_BY_ID), ('prog', PROG_BY_ID)):
        for i in next_ids(kind):
            try:
                fd = bpfsys.bpf(cmd, struct.pack('<I', i).ljust(64, b'\0'))
            except OSError:
                continue
            with open(f'/proc/self/fdinfo/{fd}') as f:
                size = next(int(x.split()[1]) for x in f if x.startswith('memlock'))
            out[kind, i] = size, kind == 'map' and BLOB in map_name(fd)
            os.close(fd)
    return out


class Bench:
    """One implementation, one ruleset."""

    def __init__(self, peer, shape, limit):
        self.peer, self.shape, self.limit = peer, shape, limit
        self.receiver, self.rows = net.Receiver(), []
        self.env = peers.env_of(peer.impl)

    def row(self, what, seconds):
        self.rows.append(dict(part='update', shape=self.shape.name, n=self.shape.n, what=what,
                              peer=self.peer.name, value=seconds * 1e3, unit='ms'))

    def timed(self, *cmd, text=''):
        return peers.timed(self.receiver.ns, cmd, text, self.limit, self.env)

    def restore(self, rounds):
        text, times = self.peer.text(self.shape), []
        before = bpf_memory()
        times.append(self.peer.load(self.receiver, text, self.limit))
        self.peer.impl.real and self.memory(before, text.count('-A '))
        while len(times) < rounds and times[0] < self.limit / 4:
            times.append(self.timed('iptables-legacy-restore', text=text))
        self.row('restore', statistics.median(times))

    def memory(self, before, rules):
        new = {k: v for k, v in bpf_memory().items() if k not in before}
        for what, retained in (('retained blob', True), ('beyond the blob', False)):
            size = sum(size for size, blob in new.values() if blob == retained)
            self.rows.append(dict(part='memory', shape=self.shape.name, n=self.shape.n, what=what,
                                  peer=self.peer.name, value=size / rules, unit='bytes a rule'))

    def one_rule(self, rounds):
        """-A, -I and -D of one rule."""
        rule = ['INPUT', '-s', ADDED, '-j', 'DROP']
        middle = ['INPUT', str(max(1, self.shape.n // 2)), *rule[1:]]
        each = {'-A': ('-A', rule), '-I': ('-I', rule), '-I, middle': ('-I', middle)}
        times = {k: [] for k in (*each, '-D')}
        for _ in range(rounds):
            for name, (op, args) in each.items():
                times[name].append(self.timed('iptables-legacy', op, *args))
                times['-D'].append(self.timed('iptables-legacy', '-D', *rule))
        for name, x in times.items():
            self.row(name, statistics.median(x))

    def one_service(self, rounds):
        times = [self.timed('iptables-legacy-restore', '-n', text=self.shape.change(7 + i, i))
                 for i in range(rounds)]
        self.row('restore -n of one service', statistics.median(times))

    def close(self):
        self.receiver.close()


def one(peer, shape, rounds, limit):
    """Rows of one implementation with one ruleset."""
    b = Bench(peer, shape, limit)
    try:
        b.restore(rounds)
        if isinstance(shape, shapes.Services):
            b.one_service(rounds)
        else:
            b.one_rule(rounds)
    except Left as e:
        b.rows.append(dict(part='update', shape=shape.name, n=shape.n, what='', peer=peer.name,
                           note=f'left out: {e}'))
    finally:
        b.close()
    return b.rows


def ratios(rows):
    """To what the kernel's own ip_tables takes for the same."""
    base = {(r['part'], r['shape'], r['n'], r['what']): r['value'] for r in rows
            if r['peer'] in (peers.IPTABLES, peers.RAW) and 'value' in r}
    for r in rows:
        of = base.get((r['part'], r['shape'], r['n'], r['what']))
        if of and 'value' in r:
            r.update(ratio=r['value'] / of, of='ip_tables')


def run(impls, sizes, services, rounds, limit, report):
    ref, _, on = impls
    rows = []
    for shape in [*map(shapes.Sources, sizes), *map(shapes.Services, services)]:
        kernel = peers.IPTABLES if shape.table == 'filter' else peers.RAW
        done = []
        for name, impl in ((kernel, ref), (peers.EARLY, on)):
            done += one(peers.IpTables(name, impl, 'any table'), shape, rounds, limit)
        ratios(done)
        report(done)
        rows += done
    return rows

# SPDX-License-Identifier: GPL-2.0
"""
What changes of a ruleset take by the stock commands, on all implementations in turn: the
time of the whole command; the processor time, the helper's with it, which others on the
machine change less; and what rulesets take of the kernel's memory.
"""
import os
import resource
import statistics
import struct
import time

import bpfsys
import leak
import net
import peers
import shapes
from peers import Left

OTHER = 1 << 20		# from there on rules are others than those that are there
MAP_BY_ID, PROG_BY_ID = 14, 13
BLOB = 'blob'
IN_A_ROW = 10
SETTLE = 0.03		# seconds: then the early stage has followed


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


def helper_time(impl):
    if not impl.real:
        return 0
    with open(f'/proc/{impl.pid()}/schedstat') as f:
        return int(f.read().split()[0]) / 1e9


class Side:
    """One implementation, in a namespace of its own."""

    def __init__(self, peer, limit):
        self.peer, self.limit, self.receiver = peer, limit, net.Receiver()
        self.env = peers.env_of(peer.impl)
        self.times, self.memory = {}, {}
        self.left = None		# why there are no more times

    def cpu(self):
        """Seconds of processor time: the commands' and the helper's."""
        r = resource.getrusage(resource.RUSAGE_CHILDREN)
        return r.ru_utime + r.ru_stime + helper_time(self.peer.impl)

    def measure(self, what, timed, *args, n=1):
        """@timed(*@args) gives the seconds that @n commands take."""
        if self.left:
            return
        self.peer.impl.idle(self.receiver.ns)	# what another has left it to do
        start = self.cpu()
        try:
            seconds = timed(*args)
        except Left as e:
            self.left = str(e)
            return
        time.sleep(SETTLE)
        self.times.setdefault(what, []).append((seconds / n, (self.cpu() - start) / n))

    def timed(self, cmd, text=''):
        return peers.timed(self.receiver.ns, cmd, text, self.limit, self.env)

    def command(self, what, *cmd, text=''):
        self.measure(what, self.timed, cmd, text)

    def commands(self, what, cmds):
        self.measure(what, lambda: sum(map(self.timed, cmds)), n=len(cmds))

    def restore(self, text):
        """Once more, unless it takes too long for that."""
        if self.times.get('restore', [(0,)])[0][0] < self.limit / 4:
            self.measure('restore', self.peer.load, self.receiver, text, self.limit)

    def first_restore(self, text):
        """What is new of the kernel's memory then is the ruleset's."""
        before = bpf_memory()
        self.restore(text)
        if self.peer.impl.real and not self.left:
            new = {k: v for k, v in bpf_memory().items() if k not in before}
            for what, retained in (('retained blob', True), ('beyond the blob', False)):
                size = sum(size for size, blob in new.values() if blob == retained)
                self.memory[what] = size / text.count('-A ')

    def rows(self, shape):
        def row(part, what, **more):
            return dict(part=part, shape=shape.name, n=shape.n, what=what, peer=self.peer.name,
                        **more)
        for what, size in self.memory.items():
            yield row('memory', what, value=size, unit='bytes a rule')
        for what, times in self.times.items():
            for part, x in zip(('update', 'cpu'), zip(*times)):
                yield row(part, what, value=statistics.median(x) * 1e3, unit='ms')
        if self.left:
            yield row('update', '', note=f'left out: {self.left}')


def restores(sides, shape, rounds):
    """Others in between; what is there at the end is @shape."""
    other = type(shape)(shape.n, OTHER)
    texts = [x.iptables(shape.table) for x in (shape, other)]
    for s in sides:
        s.first_restore(texts[0])
    for k in range(1, rounds | 1):
        for s in sides:
            s.restore(texts[k & 1])


def rule_changes(shape, k):
    """{what: arguments} of changes of one rule, which leave as many as there were."""
    one, two = ([*shapes.iptables_rule(shape.rule(OTHER * n + k)).split(), '-j', 'DROP']
                for n in (2, 3))
    middle = ['INPUT', str(max(1, shape.n // 2))]
    return {'-A': ['-A', 'INPUT', *one], '-D': ['-D', 'INPUT', *one],
            '-I': ['-I', 'INPUT', *one], '-D, first': ['-D', 'INPUT', '1'],
            '-I, middle': ['-I', *middle, *one], '-R, middle': ['-R', *middle, *two],
            '-D, middle': ['-D', *middle], '-Z': ['-Z']}


def rules(sides, shape, rounds):
    for k in range(rounds):
        for what, args in rule_changes(shape, k).items():
            for s in sides:
                s.command(what, 'iptables-legacy', *args)
        for op in '-A', '-D':
            cmds = [('iptables-legacy', *rule_changes(shape, k * IN_A_ROW + i)[op])
                    for i in range(IN_A_ROW)]
            for s in sides:
                s.commands(f'{op}, {IN_A_ROW} in a row', cmds)


def services(sides, shape, rounds):
    for k in range(rounds):
        for what, text in (('restore -n of one service', shape.change(7 + k, k)),
                           ('restore -n of one more', shape.more(OTHER + k))):
            for s in sides:
                s.command(what, 'iptables-legacy-restore', '-n', text=text)


def one(impls, shape, rounds, limit):
    """Rows of one ruleset."""
    kernel = peers.IPTABLES if shape.table == 'filter' else peers.RAW
    sides = []
    try:
        for name, impl in zip((kernel, peers.LATE, peers.EARLY), impls):
            sides.append(Side(peers.IpTables(name, impl, 'any table'), limit))
        restores(sides, shape, rounds)
        change = services if isinstance(shape, shapes.Services) else rules
        change(sides, shape, rounds)
        return [row for s in sides for row in s.rows(shape)]
    finally:
        for s in sides:
            s.receiver.close()


def ratios(rows):
    """To what the kernel's own ip_tables takes for the same."""
    base = {(r['part'], r['shape'], r['n'], r['what']): r['value'] for r in rows
            if r['peer'] in (peers.IPTABLES, peers.RAW) and 'value' in r}
    for r in rows:
        of = base.get((r['part'], r['shape'], r['n'], r['what']))
        if of and 'value' in r:
            r.update(ratio=r['value'] / of, of='ip_tables')


def run(impls, sizes, services, rounds, limit, report):
    rows = []
    for shape in [*(kind(n) for kind in (shapes.Sources, shapes.Ports) for n in sizes),
                  *map(shapes.Services, services)]:
        done = one(impls, shape, rounds, limit)
        ratios(done)
        report(done)
        rows += done
    return rows

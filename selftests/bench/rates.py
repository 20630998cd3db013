# SPDX-License-Identifier: GPL-2.0
"""
Packets per second, side by side: for each shape and size, all peers are set up, and
take turns; the frames come from one generator.  A rate is judged by its ratio to the
limit (dropped) or to no firewall (accepted) in the same round, so that what the
machine does beside it falls out.  Before the rounds of each verdict the same packets
are sent until xtjit's early stage has settled, that is, rests where all are accepted
(Peer.settle()): what is measured is what lasts, not its first three seconds.  Then all is built anew, for where things come to
lie in memory is worth some percent, and the median of all rounds is the result.
"""
import statistics

import net
import peers
import shapes
from peers import Left

LARGE = 1000000			# takes long to load: once
PROBE = 64			# frames, to see how slow a peer is: one batch


class Plan:
    """How much is measured."""

    def __init__(self, sizes, sets, rounds, seconds, load_limit, keys):
        self.sizes, self.sets, self.rounds, self.seconds = sizes, sets, rounds, seconds
        self.load_limit, self.keys = load_limit, keys


class Cell:
    """One peer with one ruleset."""

    def __init__(self, peer, receiver, loading):
        self.peer, self.receiver, self.loading = peer, receiver, loading
        self.count = {}

    def prepare(self, keys, verdict, seconds, limit):
        """All that a turn needs; Left if a batch takes longer than @limit."""
        self.fit(keys, seconds, limit)
        self.peer.settle(self.receiver, lambda: self.receiver.send(keys, self.count[keys]),
                         verdict == 'accept')
        self.fit(keys, seconds, limit)

    def fit(self, keys, seconds, limit):
        """How many frames fit into @seconds."""
        n, took = PROBE, self.receiver.send(keys, PROBE)[0]
        if took > limit:
            raise Left(f'{PROBE} packets take {took:.1f} s')
        while took < seconds / 4:
            n = int(n * max(2, min(64, seconds / took)))
            took = self.receiver.send(keys, n)[0]
        self.count[keys] = max(PROBE, int(n * seconds / took))

    def rate(self, keys):
        """(frames a second, the share of them that was let in)"""
        seconds, got, passed = self.receiver.send(keys, self.count[keys])
        return got / seconds, passed / max(got, 1)


class Group:
    """All peers with one shape of one size."""

    def __init__(self, plan, shape, all_peers):
        self.plan, self.shape, self.peers = plan, shape, all_peers
        self.rates = {}				# (peer, verdict): [(rate, ratio, passed)]
        self.loads, self.left = {}, {}

    def run(self):
        # that order: what was of use is slower to rest
        keys = {v: self.shape.keys(self.plan.keys, v == 'drop') for v in ('accept', 'drop')}
        try:
            texts = self.texts()
            for _ in range(self.plan.sets if self.shape.n < LARGE else 1):
                self.one_set(keys, texts)
        finally:
            for k in keys.values():
                k.close()
        return self.rows()

    def texts(self):
        out = {}
        for p in self.peers:
            if p in self.left:
                continue
            try:
                out[p] = p.text(self.shape)
            except Left as e:
                self.left[p] = str(e)
        return out

    def one_set(self, keys, texts):
        cells = []
        try:
            for p, text in texts.items():
                if p not in self.left:
                    self.build(cells, p, text)
            for verdict, k in keys.items():
                for c in list(cells):
                    self.prepare(cells, c, verdict, k)
                for _ in range(self.plan.rounds):
                    self.round(cells, verdict, k)
        finally:
            for c in cells:
                c.receiver.close()

    def build(self, cells, p, text):
        r = net.Receiver(self.shape.port)
        try:
            c = Cell(p, r, p.load(r, text, self.plan.load_limit))
        except BaseException as e:
            r.close()
            if not isinstance(e, Left):
                raise
            self.left[p] = str(e)
            return
        cells.append(c)
        self.loads.setdefault(p, []).append(c.loading)

    def prepare(self, cells, c, verdict, keys):
        """Or it is left out from now on."""
        if not measured(c.peer, verdict):
            return
        try:
            c.prepare(keys, verdict, self.plan.seconds, self.plan.load_limit)
        except Left as e:
            self.left[c.peer] = str(e)
            cells.remove(c)
            c.receiver.close()

    def round(self, cells, verdict, keys):
        """Each in turn, between two turns of what it is compared to."""
        base = next(c for c in cells if c.peer.name == BASE[verdict])
        before, _ = base.rate(keys)
        for c in cells:
            if c is base or not measured(c.peer, verdict):
                continue
            rate, passed = c.rate(keys)
            after, _ = base.rate(keys)
            ratio = rate / statistics.mean((before, after))
            self.rates.setdefault((c.peer, verdict), []).append((rate, ratio, passed))
            self.rates.setdefault((base.peer, verdict), []).append((after, 1, 0))
            before = after

    def rows(self):
        out = []
        for p in self.peers:
            for verdict in ('drop', 'accept'):
                if not measured(p, verdict):
                    continue
                row = dict(part='rate', shape=self.shape.name, title=self.shape.title,
                           n=self.shape.n, what=verdict, peer=p.name)
                x = self.rates.get((p, verdict))
                if x:
                    rate, ratio, passed = (statistics.median(y) for y in zip(*x))
                    row.update(value=rate / 1e6, unit='Mpps', ratio=ratio, of=BASE[verdict])
                    if p.name not in BASE.values() and abs(passed - (verdict == 'accept')) > 0.005:
                        row['note'] = f'{passed:.1%} of the packets were let in'
                else:
                    row['note'] = 'left out: ' + self.left.get(p, 'not measured')
                out.append(row)
            if p in self.loads and p.name not in BASE.values():
                out.append(dict(part='load', shape=self.shape.name, n=self.shape.n, what='restore',
                                peer=p.name, value=statistics.median(self.loads[p]) * 1e3,
                                unit='ms'))
        return out


BASE = dict(drop=peers.LIMIT, accept=peers.NONE)


def measured(p, verdict):
    """Nothing is accepted by the limit, or dropped without a firewall."""
    if p.name == peers.TEN:
        return verdict == 'accept'
    return p.name not in BASE.values() or p.name == BASE[verdict]


def outgrown(plan, shape, last):
    """Peers that the next size is too much for, by what the last one took: {peer: why}"""
    out, growth = {}, shape.n / last.shape.n
    for p, why in last.left.items():
        if p.kind not in shape.why:
            out[p] = why if ' at ' in why else f'{why} at {last.shape.n:,} already'
    for p, took in last.loads.items():
        if (min(took) - 0.1) * growth > 1.5 * plan.load_limit:
            out[p] = (f'loading would take more than {plan.load_limit:g} s: it takes '
                      f'{min(took):.1f} s at {last.shape.n:,}')
    return out


def every_shape(plan, corpus):
    for kind in shapes.SYNTHETIC:
        for n in plan.sizes[kind.name]:
            yield kind(n)
    for n in plan.sizes['services']:
        yield shapes.Services(n)
    for path in corpus:
        yield shapes.Corpus(path)


def run(plan, impls, corpus, report):
    """Rows; @report gets each group's as it is done."""
    every, rows, last = peers.peers(impls), [], None
    ten = peers.IpTables(peers.TEN, impls[2], part='first_ten')
    for shape in every_shape(plan, corpus):
        g = Group(plan, shape, every + [ten] * isinstance(shape, shapes.Corpus))
        if last and last.shape.name == shape.name:
            g.left.update(outgrown(plan, shape, last))
        done = g.run()
        report(done)
        rows += done
        last = g
    return rows

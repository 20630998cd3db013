# SPDX-License-Identifier: GPL-2.0
"""
The accept path, with sockets at both ends: TCP throughput and the time of a round
trip, with rules that all miss.

Throughput is measured once xtjit's early stage rests, as it does after two to three
seconds of it; round trips before that, while the stage is at work, as it is where
packets are few.
"""
import os
import socket
import statistics
import time

import net
import peers
import shapes
from peers import Left

PORT = 7000
MSG_TRUNC = 0x20		# of TCP: the data is not copied


class Throughput:
    """
    Bits into the receiver in a second of one CPU, on which both ends are: what else runs on
    it does not count.  In frames of 1500 bytes, which GRO merges.
    """

    def __init__(self, receiver):
        self.receiver = receiver
        with receiver.ns.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind((net.LOCAL[0], PORT))
            listener.listen()
            self.out = receiver.gen.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.out.connect((net.LOCAL[0], PORT))
            self.into, _ = listener.accept()
        self.out.setblocking(False)
        self.into.setblocking(False)
        self.data, self.buf = bytes(1 << 18), bytearray(1 << 20)
        self.run(0.05)			# its window opens

    def run(self, seconds):
        cpus, total = os.sched_getaffinity(0), 0
        os.sched_setaffinity(0, {net.CPU})
        try:
            start = now = net.cpu_time()
            while now < start + seconds:
                for _ in range(50):
                    total += self.turn()
                now = net.cpu_time()
        finally:
            os.sched_setaffinity(0, cpus)
        return total * 8 / (now - start)

    def turn(self):
        """Sends what goes out, takes what has come: how much."""
        got = 0
        try:
            self.out.send(self.data)
        except BlockingIOError:
            pass
        try:
            while n := self.into.recv_into(self.buf, 0, MSG_TRUNC):
                got += n
        except BlockingIOError:
            return got
        raise ConnectionResetError

    def close(self):
        self.out.close()
        self.into.close()


def round_trips(receiver, count):
    """
    Seconds of each of @count: a datagram of 64 bytes there and one back, by one thread on
    one CPU, so that nobody has to be woken up.
    """
    a = receiver.gen.socket(socket.AF_INET, socket.SOCK_DGRAM)
    b = receiver.ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
    cpus, out, clock = os.sched_getaffinity(0), [], time.perf_counter
    os.sched_setaffinity(0, {net.CPU})
    try:
        with a, b:
            a.settimeout(1)
            b.settimeout(1)
            b.bind((net.LOCAL[0], PORT))
            a.bind((net.PEER, PORT))
            a.connect(b.getsockname())
            b.connect(a.getsockname())
            for _ in range(count):
                start = clock()
                a.send(bytes(64))
                b.recv(64)
                b.send(bytes(64))
                a.recv(64)
                out.append(clock() - start)
    finally:
        os.sched_setaffinity(0, cpus)
    return out


def percentile(sorted_, share):
    return sorted_[min(len(sorted_) - 1, int(len(sorted_) * share))]


class Path:
    """A receiver with rules that nothing meets."""

    def __init__(self, peer, n, limit):
        self.peer, self.name, self.n = peer, peer.name, n
        self.receiver = net.Receiver()
        # before there is XDP, for which veth turns them off, and on again behind it
        self.receiver.gen.run(['ethtool', '-K', 'g0', 'tso', 'off', 'gso', 'off'])
        try:
            peer.load(self.receiver, peer.text(shapes.Sources(n)), limit)
        except Left:
            self.receiver.close()
            raise


def setups(impls, sizes, limit):
    """The first is that without a firewall; then rows of what could not be loaded."""
    by_name = {p.name: p for p in peers.peers(impls)}
    out = [Path(by_name[peers.NONE], 0, limit), Path(peers.Pass('XDP pass', 'none'), 0, limit)]
    left = []
    for n in sizes:
        for name in (peers.EARLY, peers.LATE, peers.IPTABLES):
            try:
                out.append(Path(by_name[name], n, limit))
            except Left as e:
                left.append(dict(part='path', shape='source', n=n, what='TCP', peer=name,
                                 note=f'left out: {e}'))
    return out, left


def throughput(paths, rounds, seconds):
    """{Path: [(bits a second, ratio to no firewall next to it)]}"""
    flows, out = [], {}
    try:
        for p in paths:
            f = Throughput(p.receiver)
            flows.append(f)
            p.peer.settle(p.receiver, lambda: f.run(0.05), True)
        for _ in range(rounds):
            before = flows[0].run(seconds)
            for p, f in list(zip(paths, flows))[1:]:
                rate = f.run(seconds)
                after = flows[0].run(seconds)
                out.setdefault(paths[0], []).append((after, 1))
                out.setdefault(p, []).append((rate, 2 * rate / (before + after)))
                before = after
    finally:
        for f in flows:
            f.close()
    return out


def latency(paths, rounds, count):
    """{Path: seconds of all round trips, sorted}"""
    out = {p: [] for p in paths}
    for _ in range(rounds):
        for p in paths:
            out[p].extend(round_trips(p.receiver, count))
    return {k: sorted(v) for k, v in out.items()}


def tcp_rows(rates):
    for p, x in rates.items():
        rate, ratio = (statistics.median(y) for y in zip(*x))
        yield dict(part='path', shape='source', n=p.n, what='TCP', peer=p.name,
                   value=rate / 1e9, unit='Gbit/s', ratio=ratio, of=peers.NONE)


def trip_rows(trips, base):
    for what, share in (('median', 0.5), ('99 %', 0.99), ('99.9 %', 0.999)):
        for p, x in trips.items():
            value = percentile(x, share)
            yield dict(part='path', shape='source', n=p.n, what=f'round trip, {what}',
                       peer=p.name, value=value * 1e6, unit='us',
                       ratio=value / percentile(trips[base], share), of=peers.NONE)


def run(impls, sizes, rounds, seconds, count, limit, report):
    paths, rows = setups(impls, sizes, limit)
    try:
        trips = latency(paths, rounds, count)
        rows += tcp_rows(throughput(paths, rounds, seconds))
        rows += trip_rows(trips, paths[0])
    finally:
        for p in paths:
            p.receiver.close()
    report(rows)
    return rows

# SPDX-License-Identifier: GPL-2.0
"""
The short check: packets per second of xtjit next to the limit, and to ip_tables.  What
is compared takes turns, next to each other in time; all is built anew several times,
for where things come to lie in memory is worth some percent.
"""
import statistics

import feed
import net
import peers
import rates
import shapes
from pkt import UDP

ONE = f'*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s {net.PEER} -p udp --dport 5555 -j DROP\nCOMMIT\n'
TEN = ('*filter\n:INPUT ACCEPT [0:0]\n' + ''.join(f'-A INPUT {r} -j DROP\n' for r in (
    '-s 192.0.2.0/24', '-s 198.51.100.7', '-p tcp --dport 22', '-p tcp --dport 23',
    '-p udp --dport 53', '-p udp --dport 123 -s 203.0.113.0/24', '-p icmp',
    '-d 10.71.0.9', '-p udp -m multiport --dports 137,138,1900')) +
       '-A INPUT -p udp --dport 5555 -j ACCEPT\nCOMMIT\n')

SETS, ROUNDS, SECONDS, LOAD_LIMIT = 6, 5, 0.02, 10


def keys():
    """All from one host to one port, from any port."""
    src, dst = shapes.number(net.PEER), shapes.number(net.LOCAL[0])
    return feed.Keys([feed.header(src, dst, UDP, 1024 + i, net.PORT) for i in range(1 << 14)])


def cells(pair, k):
    """What is compared, set up: a list, which the caller closes."""
    out = []
    try:
        for peer, rules in pair:
            r = net.Receiver()
            out.append(rates.Cell(peer, r, 0))
            peer.load(r, rules, LOAD_LIMIT)
            out[-1].prepare(k, 'accept' if rules == TEN else 'drop', SECONDS, LOAD_LIMIT)
    except BaseException:
        close(out)
        raise
    return out


def close(cells_):
    for c in cells_:
        c.receiver.close()


def ratios(pair, k):
    """Of the first one's rate to the second's, turn by turn."""
    a, b = both = cells(pair, k)
    try:
        out = []
        for _ in range(ROUNDS):
            before, x, after = b.rate(k)[0], a.rate(k)[0], b.rate(k)[0]
            out.append(2 * x / (before + after))
        return out
    finally:
        close(both)


def run(impls):
    """The exit status."""
    by_name = {p.name: p for p in peers.peers(impls)}
    early, late = by_name[peers.EARLY], by_name[peers.LATE]
    limit, tables = by_name[peers.LIMIT], by_name[peers.IPTABLES]
    rows = (('one DROP rule, to the limit', (early, ONE), (limit, ''), 0.8),
            ('one DROP rule, early=off, to ip_tables', (late, ONE), (tables, ONE), 0.95),
            ('ten rules and ACCEPT, to ip_tables', (early, TEN), (tables, TEN), 0.95),
            ('ten rules and ACCEPT, early=off, to ip_tables', (late, TEN), (tables, TEN), 0.95))
    found, k = {r: [] for r in rows}, keys()
    try:
        for _ in range(SETS):
            for r in rows:
                found[r] += ratios(r[1:3], k)
    finally:
        k.close()
    bad = 0
    for (name, _, _, least), x in found.items():
        ratio = statistics.median(x)
        bad += ratio < least
        print(f'{"FAIL: " if ratio < least else ""}{name}: {ratio:.2f}, at least {least}')
    return 1 if bad else 0

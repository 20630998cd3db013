#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""The benchmark's own parts: rulesets and headers, and what is made of figures."""
import csv
import os
import shutil
import sys
import tempfile
from xml.etree import ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '../lib'), os.path.join(HERE, '../bench')]
import feed
import page
import pkt
import shapes
from tap import Tap

RATES = [dict(part='rate', shape='source', title='sources', n=n, what='drop', peer=p, value=v,
              unit='Mpps', ratio=v / 8, of='XDP limit')
         for p, x in (('XDP limit', (8, 8)), ('xtjit', (6, 5.5)), ('nft', (1.5, 0.0125)))
         for n, v in zip((1, 10000), x)]
LEFT = dict(part='rate', shape='source', title='sources', n=1000000, what='drop', peer='nft',
            note='left out: loading takes more than 15 s')
TABLE = '''Packets per second, source, drop: Mpps (in parentheses: ratio to XDP limit)
      rules    XDP limit        xtjit             nft
          1  8.00 (1.00)  6.00 (0.75)     1.50 (0.19)
     10,000  8.00 (1.00)  5.50 (0.69)  0.013 (0.0016)
  1,000,000                                         -

source, nft, 1,000,000 rules: left out: loading takes more than 15 s
'''


def headers(t):
    """What is sent has correct checksums, and meets the rules, or none."""
    for kind in shapes.SYNTHETIC:
        s = kind(200)
        for what, packets in (('hits', s.hit), ('misses', s.miss)):
            good = met = 0
            for _ in range(100):
                h = packets()
                good += pkt.checksum(h[:20]) == 0 and len(h) == feed.HEADERS and summed(h)
                met += any(matches(r, h) for r in s.rules)
            t.eq((good, met), (100, 100 if what == 'hits' else 0), f'{s.name}: {what}')


def summed(h):
    """The TCP segment that it makes of a frame; UDP has no checksum."""
    rest = feed.frame(b'r' * 6, b'g' * 6)[feed.ETH + feed.HEADERS:]
    pseudo = h[12:20] + bytes([0, pkt.TCP, 0, feed.LENGTH - 20])
    return h[9] != pkt.TCP or pkt.checksum(pseudo + h[20:] + rest) == 0


def within(a, prefix):
    return not prefix or (a ^ prefix[0]) >> (32 - prefix[1]) == 0


def matches(r, h):
    src, dst = (int.from_bytes(h[i:i + 4], 'big') for i in (12, 16))
    dport = int.from_bytes(h[22:24], 'big')
    return (within(src, r.s) and within(dst, r.d) and r.proto in (0, h[9]) and
            (not r.ports or any(lo <= dport <= hi for lo, hi in r.ports)))


def rulesets(t):
    """Each rule is there once, whichever tool it is for."""
    for kind in shapes.SYNTHETIC:
        s = kind(50)
        t.eq((s.iptables().count('-j DROP'), s.nft().count(' drop\n')), (50, 50),
             f'{s.name}: one rule after the other')
    for kind in (shapes.Sources, shapes.Ports, shapes.Services):
        here, other = (set(kind(50, first).iptables().splitlines()) for first in (0, 1 << 20))
        t.ok(len(here) == len(other) and len(here & other) < 6,
             f'{kind.name}: others of the same kind', here & other)
    s = shapes.Services(20)
    t.eq((s.iptables().count('-A KUBE-SERVICES'), s.nft_sets().count('goto')), (20, 20),
         'services: dispatch')
    t.eq(s.change(3, 1).count('KUBE-SVC-00000003'), 3, 'services: the change of one')


def output(t):
    rows = RATES + [LEFT]
    t.eq(page.plain(rows), TABLE, 'tables as text')
    folder = tempfile.mkdtemp(prefix='xtjit-bench.')
    try:
        plots = shutil.which('gnuplot')
        if not plots:
            t.skip('plots', 'no gnuplot')
            page.plots = lambda rows: {}
        page.write(rows, folder, ['a & b'])
        with open(os.path.join(folder, 'results.csv')) as f:
            got = list(csv.DictReader(f))
        t.eq([(r['peer'], r['value']) for r in got],
             [(r['peer'], str(r.get('value', ''))) for r in rows], 'CSV')
        with open(os.path.join(folder, 'index.html')) as f:
            text = f.read()
        t.ok('<td>6.00 (0.75)</td>' in text and 'a &amp; b' in text and 'more than 15 s' in text,
             'the page', text)
        if plots:
            svg = ElementTree.parse(os.path.join(folder, 'drop-source.svg'))
            names = {x.strip() for x in svg.getroot().itertext()}
            t.ok({'XDP limit', 'xtjit', 'nft'} <= names and text.count('<svg') == 2,
                 'plots', names)
    finally:
        shutil.rmtree(folder)


def main():
    t = Tap()
    for part in (headers, rulesets, output):
        t.guard(part.__name__, part, t)
    return t.done()


sys.exit(main())

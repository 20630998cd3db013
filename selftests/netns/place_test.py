#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 120
"""
Changes in place: one rule of a group comes or goes, and programs and maps stay.
"""
import mmap
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import bpfsys
from world import check, check_counts, counting_rules, main, test

GAP = 64		# umh/gen_numbers.c
# struct gen_blob's .ncounters; struct base: its fields, and where its sums begin
NCOUNTERS, BASE, SUMS = 36, '=QQIIII', 440
WRITE = '=QQII'		# struct cl_write
NONE = struct.pack('=I', 0xffffffff)


def send(w, *hosts, n=1):
    """Which of 127.0.HOST datagrams of ours can be sent to."""
    code = f'''import socket, sys
s = socket.socket(2, 2)
for h in {hosts!r}:
    try:
        for i in range({n}):
            s.sendto(b"x", ("127.0." + h, 9))
        print(h)
    except OSError:
        pass
'''
    return w.plain('python3', '-c', code).stdout.split()


def in_place(w):
    """How many rulesets so far, and how many of them came in place."""
    m = re.search(r'rulesets (\d+) \(\d+ changed in part, (\d+) of them in place', w.status())
    return [int(x) for x in m.groups()]


def rule(host):
    return '-d', f'127.0.{host}', '-j', 'DROP'


def group(w, n=200):
    """Rules that are a group, and a first change, which makes room for others."""
    w.plain('ip', 'link', 'set', 'lo', 'up')
    text = ''.join(f'-A OUTPUT -d 127.0.{9 + i // 200}.{i % 200} -j DROP\n' for i in range(1, n + 1))
    w.ipt('-n', cmd='iptables-legacy-restore', stdin=f'*filter\n{text}COMMIT\n')
    w.ipt('-A', 'OUTPUT', *rule('9.250'))


def counts(w):
    """{host: packets} of the rules."""
    text = w.ipt('-c', cmd='iptables-legacy-save').stdout
    return {h: int(n) for n, h in re.findall(r'^\[(\d+):\d+\] -A OUTPUT -d 127\.0\.([\d.]+)/32', text, re.M)}


@test
def one_by_one(w):
    """rules come and go in place, at once, and no count is lost or changes its rule"""
    group(w)
    seen, before = {}, in_place(w)
    for i in range(30):
        new, old = f'8.{i + 1}', f'8.{i - 9}'
        check(send(w, new) == [new], f'{new} is dropped before it comes')
        w.ipt(*(('-I', 'OUTPUT') if i % 3 == 0 else ('-A', 'OUTPUT')), *rule(new))
        check(not send(w, new, '9.7', '9.250'), f'{new} has come, but is not in force')
        for h in new, '9.7', '9.250':
            seen[h] = seen.get(h, 0) + 1
        if i >= 10:
            w.ipt('-D', 'OUTPUT', *rule(old))
            check(send(w, old) == [old], f'{old} has gone, but is in force')
            del seen[old]
        got = counts(w)
        check({h: n for h, n in got.items() if n} == seen, f'{got}, not {seen}')
    all_, place = (b - a for a, b in zip(before, in_place(w)))
    check(all_ == 50 and place >= 40, f'{place} of {all_} in place')
    w.ipt('-Z')
    check(not any(counts(w).values()), f'-Z: {counts(w)}')
    check('in place, 0 entries gone, 0 new' in w.status(), w.status())


@test
def replaced(w):
    """a rule takes another's place: it counts from nothing"""
    group(w)
    w.ipt('-I', 'OUTPUT', '100', *rule('8.1'))
    place = []
    for i in range(2, 12):
        new, old = f'8.{i}', f'8.{i - 1}'
        check(send(w, new, old) == [new], f'{new} before it comes, {old} before it goes')
        before = in_place(w)
        w.ipt('-R', 'OUTPUT', '100', *rule(new))
        place.append(in_place(w)[1] - before[1])
        check(send(w, new, old, '9.7', n=2) == [old], f'{new} has come, {old} has gone')
        got = counts(w)
        check(got[new] == 1 and old not in got and got['9.7'] == i - 1, f'{new}: {got}')
    check(sum(place) >= 5, f'in place: {place}')


@test
def gap(w):
    """as many rules as a gap has room for come in place, then it is made anew"""
    group(w, 600)
    w.ipt('-A', 'OUTPUT', *rule('9.251'))
    whole = []
    for i in range(GAP + 1):
        before = in_place(w)
        w.ipt('-A', 'OUTPUT', *rule(f'7.{i + 1}'))
        if in_place(w)[1] == before[1]:
            whole.append(i)
    check(GAP - 1 in whole and len(whole) <= GAP / 3, f'made anew at {whole}')
    check(not send(w, '7.1', '9.251', f'7.{GAP}', f'7.{GAP + 1}'), 'not in force')


@test
def traffic(w):
    """packets flow meanwhile: each is counted once"""
    group(w)
    counting_rules(w)
    w.ipt('-A', 'OUTPUT', *rule('9.252'))
    w.traffic()
    before = in_place(w)
    for i in range(40):
        w.ipt('-I' if i & 1 else '-A', 'OUTPUT', *rule(f'6.{i + 1}'))
        if i % 3 == 2:
            w.ipt('-D', 'OUTPUT', *rule(f'6.{i}'))
    all_, place = (b - a for a, b in zip(before, in_place(w)))
    check_counts(w, w.stop_traffic(), 'in place')
    check(place >= all_ / 2, f'{place} of {all_} in place')


@test
def begins_anew(w):
    """statistic's nth begins anew with each ruleset: such a table does not change in place"""
    group(w)
    w.ipt('-A', 'OUTPUT', '-d', '127.0.3.1', '-m', 'statistic', '--mode', 'nth', '--every', '3',
          '--packet', '0', '-j', 'DROP')
    w.ipt('-I', 'OUTPUT', *rule('3.2'))
    before = in_place(w)
    for i in range(3, 9):
        w.ipt('-I', 'OUTPUT', *rule(f'3.{i}'))
        first, second = send(w, '3.1'), send(w, '3.1')
        check((first, second) == ([], ['3.1']), f'of two packets {first}, {second} go through')
    check(in_place(w)[1] == before[1], 'in place')


def map_bytes(path):
    """What is pinned, as memory, and the size of one value."""
    fd = bpfsys.pinned(path)
    info = bytearray(128)
    bpfsys.object_info(fd, info)
    _, _, _, size, n = struct.unpack_from('=5I', info)
    stride = (size + 7) // 8 * 8
    page = mmap.PAGESIZE
    m = mmap.mmap(fd, (stride * n + page - 1) // page * page)
    os.close(fd)
    return m, stride, n


def undo(w):
    """Takes back what the last change has written, as if it had ended just before that."""
    table = f'{w.root()}/{w.pins()[0]}/ip-filter'
    gens = [d for d in os.listdir(table) if d.startswith('gen-')]
    check(len(gens) == 1, f'{gens}: the old one has gone')
    blob, base, image, counters = (map_bytes(f'{table}/{gens[0]}/{x}')
                                   for x in ('blob', 'base', 'image', 'counters'))
    entries, = struct.unpack_from('=I', blob[0], NCOUNTERS)
    _, nsums, _, place, _, n = struct.unpack_from(BASE, base[0])
    check(place == 1 and n > 0, f'in place {place}, {n} writes')
    undone = 0
    for i in range(n):
        at = SUMS + nsums * entries * 16 + i * struct.calcsize(WRITE)
        where, counted, value, _ = struct.unpack_from(WRITE, base[0], at)
        if value == 0xffffffff:
            continue
        undone += 1
        image[0][where:where + 4] = NONE
        for cpu in range(counters[2] if counted else 0):
            to = cpu * counters[1] + counted
            check(counters[0][to:to + 4] == struct.pack('=I', value), 'no such value')
            counters[0][to:to + 4] = NONE
    check(undone == 1, f'{undone} rules came')


@test
def cut_short(w):
    """the helper is killed when a change is in force, but not all of it is written"""
    group(w)
    for i in range(8):
        w.ipt('-A', 'OUTPUT', *rule(f'5.{i + 1}'))
        if 'in place, 0 entries gone, 1 new' in w.status():
            break
    host = f'5.{i + 1}'
    check(not send(w, host, '9.7'), 'not in force')
    before = counts(w)
    w.kill()
    undo(w)
    check(send(w, host, '9.7') == [host], 'nothing was undone')
    w.start()
    check(not send(w, host, '9.7'), 'not completed')
    before[host] += 1
    before['9.7'] += 2
    check(counts(w) == before, f'{counts(w)}, not {before}')
    text = w.xtjit('dump', '--ir', 'filter')
    numbers = [int(n) for n in re.findall(r'^ +(\d+): ', text, re.M)]
    check(len(numbers) > 200 and sorted(numbers) == list(range(len(numbers))), f'the numbers of rules have gaps: {text}')
    for i in range(4):		# once more, with a table that was read again
        w.ipt('-A', 'OUTPUT', *rule(f'4.{i + 1}'))
        w.ipt('-D', 'OUTPUT', *rule(f'9.{i + 1}'))
    check(not send(w, host, '9.7', '4.1', '4.4') and send(w, '9.1', '9.4') == ['9.1', '9.4'],
          'changes after it')


sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
Who owns a table: it moves to the kernel's ip_tables with a rule that xtjit cannot
compile, and back without it, while packets flow; nat beside it; adopt and release;
refusal.
"""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import flow
import stream
import tap

FOREIGN = '-p tcp -m recent --rcheck --name xtjit-test -j DROP'.split()
ROUNDS = 12


def in_kernel(net, table='filter'):
    """The rules of the kernel's own ip_tables."""
    text = net.hosts['r'].run([net.tool, '-t', table, '-S']).stdout
    return [line for line in text.splitlines() if line.startswith('-A')]


def policies(net):
    text = net.hosts['r'].run([net.tool, '-S']).stdout
    return [line for line in text.splitlines() if line.startswith('-P')]


def listed(net):
    return diff.uncounted(diff.tables(net.save())['*filter'])


def test_moves(t, impl, v6):
    label = f'moves v{6 if v6 else 4} {impl.name}'
    with stream.running(impl, v6) as (n, s):
        plain = listed(n)
        s.check(t, f'{label}: in xtjit')
        if impl.real:
            t.eq(in_kernel(n), [], f'{label}: not in ip_tables at first')
        for i in range(ROUNDS):
            n.firewall('-A', 'FORWARD', *FOREIGN)
            if impl.real:
                t.eq(len(in_kernel(n)), 6, f'{label}: round {i}: in ip_tables')
            coherent(t, f'{label}: round {i}: save with it', n, plain, 1)
            if i % 4 == 0:
                s.check(t, f'{label}: round {i}: counters in ip_tables')
            n.firewall('-D', 'FORWARD', *FOREIGN)
            if impl.real:
                t.eq((in_kernel(n), policies(n)), ([], [f'-P {c} ACCEPT' for c in
                     ('INPUT', 'FORWARD', 'OUTPUT')]), f'{label}: round {i}: back in xtjit')
            coherent(t, f'{label}: round {i}: save without it', n, plain, 0)
            if i % 4 == 3:
                s.check(t, f'{label}: round {i}: counters in xtjit')
        s.check(t, f'{label}: all counters at the end')


def coherent(t, what, n, plain, extra):
    """-save shows one filter table: the rules as they were, and @extra more."""
    text = n.save()
    lines = diff.uncounted(diff.tables(text)['*filter'])
    rest = [line for line in lines if 'recent' not in line]
    t.ok(text.count('*filter\n') == 1 and rest == plain and len(lines) == len(plain) + extra,
         what, text)


NAT = '''*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i eth0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination SERVER:7
-A PREROUTING -i eth0 -p udp -m udp --dport 8080 -j DNAT --to-destination SERVER:7
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 8080 -j DROP
-A INPUT -p udp -m udp --dport 8080 -j DROP
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 8080 -j DROP
-A FORWARD -m conntrack --ctstate DNAT -m conntrack --ctorigdstport 8080
-A FORWARD -i eth0 -p udp -m udp --dport 7 -j ACCEPT
-A FORWARD -i eth0 -p tcp -m tcp --dport 7 -j ACCEPT
COMMIT
'''


def nat_flows(impl, v6):
    n = flow.Triangle(impl, v6)
    try:
        n.serve('s', tcp=[7], udp=[7])
        server = f'[{n.addr["s"]}]' if v6 else n.addr['s']
        n.restore(NAT.replace('SERVER', server))
        out = [(what, dst, port, getattr(n, what)('c', dst, port, count=3))
               for dst, port in (('r', 8080), ('r', 7), ('s', 7), ('s', 8080), ('s', 8))
               for what in ('udp', 'tcp')]
        out.append(('from', n.hosts['r'].run(['conntrack', '-L', '-p', 'udp', '-f',
                                              'ipv6' if v6 else 'ipv4']).stdout.count(
                                                  f'dst={n.addr["r1"]} ')))
        text = re.sub(r'(?m)^\[\d+:\d+\] (.*(ESTABLISHED|-p tcp).*)$', r'\1', n.save())
        kernels = len(in_kernel(n)), len(in_kernel(n, 'nat'))
        return out, text, kernels
    finally:
        n.close()


def test_nat(t, impls, v6):
    label = f'nat v{6 if v6 else 4}'
    ref, text, _ = nat_flows(impls[0], v6)
    t.ok([r[3] for r in ref[:-1]] == ['echo'] * 2 + ['timeout'] * 2 + ['echo'] * 4 +
         ['timeout'] * 2 and ref[-1][1] > 0, f'{label}: the flows are translated', str(ref))
    for impl in impls[1:]:
        got, save, kernels = nat_flows(impl, v6)
        t.eq(got, ref, f'{label} {impl.name}: what the hosts saw')
        bad = diff.compare_save(text, save)
        t.ok(not bad, f'{label} {impl.name}: counters', '\n'.join(bad))
        if impl.real:
            t.eq(kernels, (0, 3), f'{label} {impl.name}: filter in xtjit, nat in ip_tables')


def test_adopt(t, impl, v6):
    """Rules that ip_tables had before stay there until `xtjit adopt`."""
    label = f'adopt v{6 if v6 else 4} {impl.name}'
    with stream.running(impl, v6, owner=dut.Kernel()) as (n, s):
        r = n.hosts['r']
        time.sleep(0.1)
        n.firewall('-I', 'FORWARD', '-p', 'tcp', '-j', 'DROP')
        t.eq(len(in_kernel(n)), 6, f'{label}: a rule joins them in ip_tables')
        s.check(t, f'{label}: before')
        whole = listed(n)
        for i in range(5):
            r.run(impl.xtjit('adopt', 'filter'), env=impl.env())
            t.eq(in_kernel(n), [], f'{label}: {i}: adopted')
            t.eq(listed(n), whole, f'{label}: {i}: the same rules and policies, adopted')
            s.check(t, f'{label}: {i}: counters, adopted')
            r.run(impl.xtjit('release', 'filter'), env=impl.env())
            t.eq(len(in_kernel(n)), 6, f'{label}: {i}: released')
            t.eq(listed(n), whole, f'{label}: {i}: the same rules and policies, released')
            s.check(t, f'{label}: {i}: counters, released')
        r.run(impl.xtjit('adopt'), env=impl.env())
        t.eq(in_kernel(n), [], f'{label}: adopt without a name')


def test_refuse(t, impl, v6):
    label = f'refuse v{6 if v6 else 4} {impl.name}'
    with stream.running(impl, v6) as (n, s):
        time.sleep(0.1)
        s.pause()
        before = n.save()
        r = n.firewall('-A', 'FORWARD', *FOREIGN, check=False)
        t.ok(r.returncode != 0, f'{label}: iptables fails')
        t.ok('recent' in r.stderr and 'FORWARD' in r.stderr and re.search(r'\b5\b', r.stderr),
             f'{label}: stderr names the rule', r.stderr)
        same(t, f'{label}: nothing has changed', before, n.save())
        bad = stream.RULES.replace('-A part',
                                   '-A part -m recent --rcheck --name x -j DROP\n-A part')
        r = n.restore(bad, check=False)
        t.ok(r.returncode != 0 and 'part' in r.stderr and 'recent' in r.stderr,
             f'{label}: a refused restore', r.stderr)
        same(t, f'{label}: the old ruleset is in force', before, n.save())
        r = n.firewall('-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE', check=False)
        t.ok(r.returncode != 0, f'{label}: nat')
        same(t, f'{label}: nothing has changed by nat', before, n.save())
        t.eq(in_kernel(n), [], f'{label}: nothing in ip_tables')
        s.resume()
        time.sleep(0.2)
        s.check(t, f'{label}: counters')


def same(t, what, before, after):
    a, b = diff.tables(before)['*filter'], diff.tables(after)['*filter']
    t.eq(b, a, what)


def main():
    dut.only_shim()
    t = tap.Tap()
    impls = dut.make(fallback='kernel')
    try:
        for v6 in (False, True):
            for impl in impls[1:]:
                t.guard('moves', test_moves, t, impl, v6)
            t.guard('nat', test_nat, t, impls, v6)
            for impl in impls[1:]:
                if not impl.real:
                    t.skip('adopt, refuse', 'the kernel stands in for xtjit')
                    continue
                t.guard('adopt', test_adopt, t, impl, v6)
                t.guard('refuse', test_refuse, t, impl.variant(impl.early, 'refuse'), v6)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())

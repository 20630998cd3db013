#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
Real connections between two hosts through a stateful firewall, and to it: what the
hosts see and what the rules count must be as with the kernel's own ip_tables.
TCP's acknowledgements are timed by chance: its packets are compared with what is
seen on the links.
"""
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import flow
import tap

COUNT = '''
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -i eth0 -p tcp
-A PREROUTING -i eth1 -p tcp
-A PREROUTING -p udp
-A PREROUTING -p ICMP
-A OUTPUT -p udp
-A OUTPUT -p ICMP
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth0 -p tcp
-A POSTROUTING -o eth1 -p tcp
-A POSTROUTING -o eth0 -p udp -m conntrack --ctdir REPLY
-A POSTROUTING -o eth1 -p udp -m conntrack --ctstate NEW
-A POSTROUTING -m conntrack --ctstate RELATED
COMMIT
'''

STATEFUL = COUNT + '''*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:in - [0:0]
:through - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -p tcp -m state --state ESTABLISHED -j ACCEPT
-A INPUT -p udp -m state --state ESTABLISHED -j ACCEPT
-A INPUT -p ICMP -m state --state ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED -j ACCEPT
-A INPUT -i eth0 -j in
-A INPUT -p tcp -j DROP
-A in -p tcp -m tcp --dport 7 --syn -m conntrack --ctstate NEW -j ACCEPT
-A in -p tcp -m tcp --dport 9 -j DROP
-A in -p tcp -m tcp --dport 10 -j REJECT --reject-with ADMIN
-A in -p tcp -j REJECT --reject-with tcp-reset
-A in -p udp -m multiport --dports 7,8 -j ACCEPT
-A in -p udp -m udp --dport 9 -j REJECT --reject-with ADMIN
-A in -p udp -j REJECT
-A in -p ICMP -m ICMPM --ICMPM-type PING -m limit --limit 1/hour --limit-burst 4 -j ACCEPT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p udp -m conntrack --ctstate ESTABLISHED --ctdir REPLY
-A FORWARD -p udp -m conntrack --ctstatus ASSURED
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -p ICMP -m conntrack --ctstate RELATED -j ACCEPT
-A FORWARD -i eth0 -o eth1 -m conntrack --ctstate NEW -j through
-A FORWARD -p tcp -j DROP
-A through -p tcp -m tcp --dport 7:8 -j ACCEPT
-A through -p tcp -m tcp --dport 9 -j DROP
-A through -p tcp -m tcp --dport 10 -j REJECT --reject-with ADMIN
-A through -p tcp -j REJECT --reject-with tcp-reset
-A through -p udp -m udp --dport 7 -m length --length 1000:65535
-A through -p udp -m udp --dport 7:8 -j ACCEPT
-A through -p udp -m udp --dport 9 -j REJECT
-A through -p ICMP -j ACCEPT
-A OUTPUT -m conntrack --ctstate RELATED
-A OUTPUT -p tcp -m tcp --dport 11 -j REJECT --reject-with tcp-reset
-A OUTPUT -p udp -m udp --dport 11 -j REJECT
-A OUTPUT -p udp -m udp --dport 12 -j DROP
-A OUTPUT -p udp
-A OUTPUT -p tcp
COMMIT
'''

STATELESS = re.sub('(?m)^.* -m conntrack .*\n', '', COUNT) + '''*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 9 -j DROP
-A INPUT -p tcp -m multiport ! --dports 7,1024:65535 -j REJECT --reject-with tcp-reset
-A INPUT -p tcp -j ACCEPT
-A INPUT -p udp -m udp --dport 9 -j REJECT
-A FORWARD -p tcp -m tcp --dport 7
-A FORWARD -i eth0 -p tcp -m multiport --dports 7,8 -j ACCEPT
-A FORWARD -i eth1 -p tcp ! --syn -j ACCEPT
-A FORWARD -i eth0 -p tcp -m tcp --dport 10 -j REJECT --reject-with ADMIN
-A FORWARD -p tcp -j DROP
-A FORWARD -p udp -m udp --dport 9 -j REJECT
-A FORWARD -p udp -m udp --dport 7 -m length --length 1000:65535
-A FORWARD -p udp -i eth0 -j ACCEPT
-A FORWARD -p udp -m udp --sport 7 -j ACCEPT
-A FORWARD -p udp FRAG -j ACCEPT
-A FORWARD -p ICMP -j ACCEPT
-A OUTPUT -p tcp
COMMIT
'''
WORDS = {False: dict(ICMPM='icmp', ICMP='icmp', PING='8', ADMIN='icmp-admin-prohibited', FRAG='-f'),
         True: dict(ICMPM='icmpv6', ICMP='ipv6-icmp', PING='128', ADMIN='icmp6-adm-prohibited',
                    FRAG='-m udp --sport 7')}


def rules(text, v6):
    w = WORDS[v6]
    text = text.replace('-m ICMPM --ICMPM', '-m icmp6 --icmpv6' if v6 else '-m icmp --icmp')
    return re.sub('|'.join(w), lambda m: w[m.group()], text)


def flows(n):
    """What the hosts do, and what becomes of it, as lines."""
    out = []

    def do(what, *args, **kw):
        result = getattr(n, what)(*args, **kw)
        out.append(f"{what} {' '.join(map(str, args))} {kw or ''}: {result}")

    for dst in ('s', 'r'):
        do('ping', 'c', dst, count=3)
        do('udp', 'c', dst, 7, count=10)
        do('udp', 'c', dst, 8)			# allowed, nobody there
        do('udp', 'c', dst, 9)			# rejected
        for _ in range(3):			# the first ones learn the path's MTU
            do('udp', 'c', dst, 7, size=4000)
        for port in (7, 8, 9, 10, 12):
            do('tcp', 'c', dst, port)
    do('ping', 'c', 'r', count=3)		# the limit has one left
    do('udp', 'c', 's', 20)
    do('udp', 's', 'c', 7)
    do('tcp', 's', 'c', 7)
    do('tcp', 's', 'r1', 7)
    do('ping', 's', 'c')
    do('pmtu', 'c', 's', 7)
    do('pmtu', 'c', 's', 7)
    for port in (7, 8, 11, 12):
        do('udp', 'r', 's', port)
    for port in (7, 8, 11):
        do('tcp', 'r', 's', port)
    do('ping', 'r', 's')
    do('tcp', 'c', 's', 7, size=3000, count=4)
    return out


def without_tcp(text):
    """The counters of TCP's rules are compared with the links, not with each other."""
    return '\n'.join(re.sub(r'^\[\d+:\d+\]', '', line) if '-p tcp' in line else line
                     for line in text.splitlines() if not line.startswith(':'))


def counter(save, rule):
    m = re.search(r'^\[(\d+):(\d+)\] ' + re.escape(rule) + '$', save, re.M)
    return int(m.group(1)), int(m.group(2))


def run_one(impl, v6, text):
    n = flow.Triangle(impl, v6)
    try:
        for h in 'crs':
            n.serve(h, tcp=[7], udp=[7])
        n.restore(rules(text, v6))
        links = n.sniff()
        results = flows(n)
        time.sleep(0.3)
        save = n.save()
        tcp = {f'-A PREROUTING -i eth{i} -p tcp': link.count(True, 6)
               for i, link in enumerate(links)}
        tcp.update({f'-A POSTROUTING -o eth{i} -p tcp': link.count(False, 6)
                    for i, link in enumerate(links)})
        return results, save, tcp
    finally:
        n.close()


def run_all(t, impls, v6, text, label):
    """run_one() for each implementation, side by side: most of it is waiting."""
    with ThreadPoolExecutor(len(impls)) as pool:
        jobs = [pool.submit(m.result, label, lambda m: run_one(m, v6, text)) for m in impls]
    out = []
    for impl, job in zip(impls, jobs):
        out.append(t.guard(f'{label} {impl.name}', job.result))
    return out


def check(t, label, ref, impl, got):
    results, save, tcp = got
    for rule, want in tcp.items():
        t.eq(counter(save, rule), want, f'{label}: {rule} as seen on the link')
    if got is ref:
        if os.environ.get('VERBOSE'):
            t.diag('\n'.join(results) + '\n' + save)
        return
    # The kernel's ICMPv6 answer comes while connect() still holds the socket, which
    # then makes little of it; a later one is an error at once.
    bad = [f'{a} | {b}' for a, b in zip(ref[0], results)
           if a != b.replace('tcp c s 10 : EACCES', 'tcp c s 10 : timeout')
           .replace('tcp c r 10 : EACCES', 'tcp c r 10 : timeout')]
    t.ok(not bad, f'{label}: what the hosts saw', '\n'.join(bad))
    bad = diff.compare_save(without_tcp(ref[1]), without_tcp(save))
    t.ok(not bad, f'{label}: counters', '\n'.join(bad))


def main():
    t = tap.Tap()
    impls = dut.make(fallback='refuse')
    try:
        for name, text in (('stateful', STATEFUL), ('stateless', STATELESS)):
            for v6 in (False, True):
                label = f'{name} v{6 if v6 else 4}'
                out = run_all(t, impls, v6, text, label)
                for impl, got in zip(impls, out):
                    if got and out[0]:
                        check(t, f'{label} {impl.name}', out[0], impl, got)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())

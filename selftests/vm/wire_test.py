#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 600
"""
Packets and their rewriting on the wire: real flows through translation and
alteration, by the reference and by xtjit.  The same must be what the hosts see, what
comes out of the router (addresses, ports, TOS, TTL, the way it takes, TCP's options,
payload), the conntrack entries, and the counters of what is not TCP.
"""
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import tap
from netns import run
from wire import Ftp, Wire, ftp_get

# "T name proto ports..." goes through forms(); words in {} are addresses, the families' words.
WORDS = {False: dict(ICMP='icmp', TTL='TTL --ttl', PORT='icmp-port-unreachable', b='', e='',
                     NEW='10.99.0.0/24', NEWHOST='10.99.0.2', STO='10.72.0.0/24', IP='ip',
                     ALL='0.0.0.0/0', SRC='10.72.0.9', NO='icmp-net-prohibited'),
         True: dict(ICMP='ipv6-icmp', TTL='HL --hl', PORT='icmp6-port-unreachable', b='[', e=']',
                    NEW='fd99::/64', NEWHOST='fd99::2', STO='fd72::/64', IP='ip -6', ALL='::/0',
                    SRC='fd72::9', NO='icmp6-adm-prohibited')}
ACROSS = [('udp1', 'c', 's', 7, 4001), ('tcp1', 'c', 's', 7, 4002), ('ping', 'c', 's'),
          ('udp1', 's', 'c', 7, 4003), ('tcp1', 's', 'c', 7, 4004)]

# (name, set-up, ruleset, flows)
SCENARIOS = [
    ('masquerade', '', '''*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -i eth0 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -m conntrack --ctstate SNAT,ESTABLISHED -j ACCEPT
COMMIT''', ACROSS + [('udp1', 'c', 's', 9, 4005), ('udp1', 'r', 's', 7, 4006)]),

    ('masquerade to ports', '', '''*nat
-A POSTROUTING -o eth1 -p udp -j MASQUERADE --to-ports 6000
-A POSTROUTING -o eth1 -p tcp -j MASQUERADE --to-ports 6001
-A POSTROUTING -o eth1 -p {ICMP} -j MASQUERADE
COMMIT''', ACROSS[:3]),

    ('snat', '{IP} route add {SRC} via {r} dev eth0 || :', '''*nat
-A POSTROUTING -o eth1 -p udp -m udp --dport 7 -j SNAT --to-source {b}{r1}{e}:5555
-A POSTROUTING -o eth1 -p tcp -j SNAT --to-source {b}{r1}{e}:5556-5556
-A POSTROUTING -s {c} -o eth1 -j SNAT --to-source {r1}
-A INPUT -i eth0 -p udp -m udp --dport 7 -j SNAT --to-source {NEWHOST}
COMMIT''', ACROSS[:3] + [('udp1', 'c', 'r', 8, 4010)]),

    ('dnat', '', '''*nat
-A PREROUTING -i eth0 -d {r} -p udp -m udp --dport 8007 -j DNAT --to-destination {b}{s}{e}:7
-A PREROUTING -i eth0 -d {r} -p tcp -m tcp --dport 8007 -j DNAT --to-destination {b}{s}{e}:7
-A PREROUTING -i eth0 -p tcp -m tcp --dport 8010:8019 -j DNAT --to-destination {b}{s}{e}:7-7
-A PREROUTING -i eth1 -d {r1} -p udp -j DNAT --to-destination {c}
-A OUTPUT -d {x} -p tcp -j DNAT --to-destination {b}{s}{e}:7
-A OUTPUT -d {x} -p udp -j DNAT --to-destination {s}
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT
-A FORWARD -p udp -j REJECT --reject-with {PORT}
COMMIT''', [('udp1', 'c', 'r', 8007, 4001), ('tcp1', 'c', 'r', 8007, 4002),
            ('tcp1', 'c', 's', 8011, 4003), ('udp1', 's', 'r1', 7, 4004),
            ('udp1', 'c', 's', 7, 4005), ('udp1', 'r', 'x', 7, 4006), ('tcp1', 'r', 'x', 99, 4007)]),

    ('redirect', '', '''*nat
-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 7
-A PREROUTING -i eth0 -p udp -m udp --dport 53 -j REDIRECT --to-ports 7
-A OUTPUT -d {s} -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 7
COMMIT
*filter
:FORWARD DROP [0:0]
-A INPUT -m conntrack --ctstate DNAT --ctorigdstport 80
COMMIT''', [('tcp1', 'c', 's', 80, 4001), ('udp1', 'c', 's', 53, 4002), ('tcp1', 'r', 's', 80, 4003),
            ('tcp1', 'c', 's', 7, 4004)]),

    ('netmap', '', '''*nat
-A PREROUTING -d {NEW} -j NETMAP --to {STO}
-A POSTROUTING -s {STO} -d {x} -j NETMAP --to {NEW}
COMMIT''', [('udp1', 'c', '{NEWHOST}', 7, 4001), ('tcp1', 'c', '{NEWHOST}', 7, 4002),
            ('udp1', 's', 'x', 7, 4003), ('ping', 'c', 's')]),

    ('tproxy', '{IP} rule add fwmark 1 lookup 100; {IP} route add local {ALL} dev lo table 100',
     '''*mangle
:divert - [0:0]
-A PREROUTING -p tcp -m socket --transparent -j divert
-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j TPROXY --on-port 3129 --tproxy-mark 0x1/0x1
-A divert -j MARK --set-xmark 0x1/0xffffffff
-A divert -j ACCEPT
COMMIT
*filter
:FORWARD DROP [0:0]
-A INPUT -p tcp -m mark ! --mark 0x1 -j DROP
COMMIT''', [('tcp1', 'c', 's', 80, 4001), ('tcp1', 'c', 's', 7, 4002)]),

    ('ftp', '', '''*raw
-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp
COMMIT
*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m helper --helper ftp -m conntrack --ctstate RELATED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 21 -m conntrack --ctstate NEW -j ACCEPT
COMMIT''', [('ftp', True, 4000), ('ftp', False, 4010)]),

    ('ftp without helper', '', '''*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 21 -m conntrack --ctstate NEW -j ACCEPT
COMMIT''', [('ftp', False, 4020)]),

    ('mss', '', '''*mangle
-A FORWARD -o eth1 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -o eth0 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 700
-A POSTROUTING -p tcp -m tcp --dport 8 -j TCPOPTSTRIP --strip-options sack-permitted,timestamp
COMMIT''', [('tcp1', 'c', 's', 7, 4001), ('tcp1', 's', 'c', 7, 4002), ('tcp1', 'c', 's', 8, 4003)]),

    ('alter', '', '''*mangle
-A PREROUTING -i eth0 -p udp -m udp --dport 7 -j {TTL}-set 33
-A PREROUTING -i eth1 -p udp -m udp --sport 7 -j {TTL}-dec 9
-A PREROUTING -i eth0 -p tcp -j {TTL}-inc 7
-A FORWARD -o eth1 -p udp -j TOS --set-tos 0x10/0x3f
-A FORWARD -o eth0 -p udp -j DSCP --set-dscp 0x2e
-A POSTROUTING -o eth1 -p tcp -j DSCP --set-dscp-class AF11
-A INPUT -p udp -j {TTL}-set 5
-A OUTPUT -p udp -j TOS --set-tos 0x08/0xff
-A OUTPUT -p {ICMP} -j {TTL}-set 77
COMMIT''', ACROSS + [('udp1', 'c', 'r', 7, 4020), ('ping', 'c', 'r'), ('udp1', 'r', 's', 7, 4021)]),

    ('marks by their way',
     '{IP} rule add fwmark 7/0xf lookup 77; {IP} route add default via {x} dev eth2 table 77',
     '''*mangle
-A PREROUTING -i eth0 -p udp -m udp --dport 7 -j MARK --set-xmark 0x7/0xffffffff
-A PREROUTING -i eth0 -p udp -m udp --dport 8 -j MARK --set-xmark 0x17/0xff
-A PREROUTING -i eth0 -p udp -m udp --dport 9 -j MARK --set-xmark 0x6/0xffffffff
-A PREROUTING -i eth0 -p tcp -m conntrack --ctstate NEW -j CONNMARK --set-xmark 0x20/0xffffffff
-A PREROUTING -i eth0 -p tcp -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A OUTPUT -p udp -m udp --dport 77 -j MARK --set-xmark 0x7/0xffffffff
-A OUTPUT -p tcp -m tcp --dport 7 -m owner --uid-owner 0 -j MARK --set-xmark 0x7/0xffffffff
-A OUTPUT -p udp -m udp --dport 78 -j TOS --set-tos 0x10/0xff
-A POSTROUTING -m mark --mark 0x20 -j TOS --set-tos 0x04/0xff
-A FORWARD -o eth2 -m mark --mark 0x7/0xf
-A POSTROUTING -o eth2 -m mark --mark 0x7/0xf
COMMIT
*nat
-A POSTROUTING -o eth2 -j MASQUERADE
COMMIT''', [('udp1', 'c', 's', 7, 4001), ('udp1', 'c', 's', 8, 4002), ('udp1', 'c', 's', 9, 4003),
            ('tcp1', 'c', 's', 7, 4004), ('udp1', 'r', 's', 77, 4005), ('udp1', 'r', 's', 78, 4006)]),

    ('not tracked', '', '''*raw
-A PREROUTING -p udp -m udp --dport 7 -j CT --notrack
-A PREROUTING -p udp -m udp --sport 7 -j CT --notrack
-A PREROUTING -i eth0 -p tcp -j CT --zone 3
-A OUTPUT -p udp -j NOTRACK
COMMIT
*nat
-A POSTROUTING -o eth1 -j MASQUERADE
COMMIT
*filter
:FORWARD DROP [0:0]
-A FORWARD -m conntrack --ctstate UNTRACKED -j ACCEPT
-A FORWARD -i eth0 -m conntrack --ctstate NEW -j ACCEPT
COMMIT''', [('udp1', 'c', 's', 7, 4001), ('udp1', 'r', 's', 8, 4002), ('ping', 'c', 's'),
            ('udp1', 'c', 's', 8, 4004)]),

    ('copies and refusals', '', '''*mangle
-A PREROUTING -i eth0 -p udp -m udp --dport 7 -j TEE --gateway {x}
COMMIT
*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -p udp -m udp --dport 9 -j REJECT --reject-with {NO}
-A FORWARD -p tcp -m tcp --dport 9 -j REJECT --reject-with tcp-reset
-A INPUT -p tcp -m tcp --dport 7 -j REJECT --reject-with {PORT}
-A OUTPUT -p udp -m udp --dport 9 -j REJECT --reject-with {PORT}
-A FORWARD -p udp -m recent --name wire --rcheck --hitcount 3 --rsource -j DROP
-A FORWARD -p udp -m recent --name wire --set --rsource
COMMIT''', [('udp1', 'c', 's', 9, 4001), ('tcp1', 'c', 's', 9, 4002), ('udp1', 'c', 's', 7, 4003),
            ('tcp1', 'c', 'r', 7, 4004), ('udp1', 'r', 's', 9, 4005), ('udp1', 'c', 's', 8, 4006)]),

    ('limits', '', '''*filter
-A FORWARD -p tcp -m tcp --dport 7 --syn -m connlimit --connlimit-above 2 --connlimit-mask 0 -j REJECT --reject-with tcp-reset
-A FORWARD -p udp -m udp --dport 7 -m hashlimit --hashlimit-above 1/hour --hashlimit-burst 3 --hashlimit-mode srcip --hashlimit-name wire -j DROP
-A FORWARD -p udp -m udp --dport 8 -m limit --limit 1/hour --limit-burst 2 -j ACCEPT
-A FORWARD -p udp -m udp --dport 8 -j REJECT --reject-with {PORT}
-A FORWARD -p udp -m udp --dport 9 -m string --string "hello1" --algo bm -j REJECT --reject-with {NO}
COMMIT''', [('hold', 's', 7, 4001, 4), ('udp1', 'c', 's', 7, 4010), ('udp1', 'c', 's', 7, 4011),
            ('udp1', 'c', 's', 8, 4012), ('udp1', 'c', 's', 8, 4013), ('udp1', 'c', 's', 9, 4014)]),
]


def words(n):
    return dict(WORDS[n.v6], **n.addr)


def do(n, kind, *args):
    if kind == 'ftp':
        return ftp_get(n, *args)
    args = [a.format(**words(n)) if isinstance(a, str) else a for a in args]
    return getattr(n, kind)(*args)


def play(impl, v6, scenario):
    """What came of it, by the words of check()."""
    name, pre, rules, flows = scenario
    n = Wire(impl, v6)
    try:
        if pre:
            n.hosts['r'].run(['sh', '-c', pre.format(**words(n))])
        for h in 'crs':
            n.serve(h, tcp=[7, 8], udp=[7, 8])
        n.transparent('r', 3129)
        if name.startswith('ftp'):
            n.servers.append(Ftp(n.hosts['s'], n.family, n.addr['s']))
        n.restore(diff.complete(rules.format(**words(n)) + '\n'))
        n.arrived()
        saw = [f"{' '.join(map(str, f))}: {do(n, *f)}" for f in flows]
        time.sleep(0.2)
        return dict(saw=saw, arrived=n.arrived(), entries=n.entries(), save=without_tcp(n.save()))
    finally:
        n.close()


def without_tcp(text):
    """How many packets TCP takes for a flow is a matter of time."""
    lines = text.splitlines()
    keep = [not (line[:1] == ':' or '-p udp' not in line and '-p ipv6-icmp' not in line and
                 '-p icmp' not in line) for line in lines]
    return '\n'.join(line if k else diff.re.sub(r'\[\d+:\d+\]', '', line)
                     for line, k in zip(lines, keep))


def differences(ref, got):
    out = [f'saw: {a} | {b}' for a, b in zip(ref['saw'], got['saw']) if a != b]
    for what in ('arrived', 'entries'):
        a, b = list(ref[what]), list(got[what])
        for x in ref[what]:
            if x in b:
                a.remove(x)
                b.remove(x)
        out += [f'{what}: only ref: {x}' for x in a] + [f'{what}: only dut: {x}' for x in b]
    return out + diff.compare_save(ref['save'], got['save'])


def check(t, impls, v6, scenario):
    """A difference counts if it is there three times."""
    label = f'{scenario[0]} v{6 if v6 else 4} {impls[-1].name}'
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            ref, got = pool.map(lambda m: play(m, v6, scenario), impls)
        found = differences(ref, got)
        if not found:
            break
        t.diag(f'{label}: once more; {found[:2]}')
    if os.environ.get('VERBOSE'):
        t.diag('\n'.join(ref['saw'] + ref['arrived'] + ref['entries']))
    t.ok(not found, f'{label}: {len(ref["arrived"])} kinds of packets',
         '\n'.join(found[:12]))


def main():
    t = tap.Tap()
    impls = dut.make()
    run(['modprobe', '-aq', 'nf_nat_ftp', 'nf_conntrack_ftp'], check=False)
    try:
        for scenario in SCENARIOS:
            for v6 in (False, True):
                if not sys.argv[1:] or scenario[0] in sys.argv[1:]:
                    t.guard(scenario[0], check, t, impls, v6, scenario)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())

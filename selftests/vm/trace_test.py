#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
The kernel's log of packets that the target TRACE has marked: the same lines in the
same order as ip_tables', through all tables, while rules and helpers come and go.
"""
import errno
import os
import re
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import dut
import pkt
import tap
from router import MAC_P, MAC_R, PEER, ROUTER, Router

RULES = '''\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:seen - [0:0]
-A PREROUTING -p udp -m udp --dport 9 -j ACCEPT
-A PREROUTING -p udp -m udp --dport 1009 -j DROP
-A PREROUTING -p udp -m udp --dport 1001 -g seen
-A PREROUTING -p udp -m udp --dport 1008 -j DROP
-A PREROUTING -m comment --comment "all others" -j seen
-A PREROUTING -j ACCEPT
-A seen -p udp -m udp --dport 1002 -j RETURN
-A seen
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 1003 -j MARK --set-xmark 0x3/0xffffffff
-A FORWARD -m mark --mark 0x3 -j ACCEPT
-A OUTPUT -p udp -m udp --dport 1003 -j MARK --set-xmark 0x5/0xffffffff
COMMIT
*security
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -j RETURN
-A FORWARD -p udp -m udp --dport 1006 -j DROP
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:a - [0:0]
:a_chain_of_a_rather_long_nam - [0:0]
:c - [0:0]
-A INPUT -p udp -m udp --dport 1001 -m quota --quota {quota} -j ACCEPT
-A INPUT -p udp -m udp --dport 1002 -j LOG --log-prefix "between "
-A INPUT -p tcp -j REJECT --reject-with tcp-reset
-A INPUT -p udp -m udp --dport 1003 -j a
-A INPUT -p udp -m udp --dport 1005 -g a_chain_of_a_rather_long_nam
-A INPUT -p {icmp} -j ACCEPT
-A INPUT -p udp -m udp --dport 1006 -j RETURN
-A INPUT -p udp -m udp --dport 1007 -j REJECT --reject-with {reject}
{many}
-A FORWARD -j a
-A a -p udp -m udp --dport 1003 -j a_chain_of_a_rather_long_nam
-A a -p udp -m udp --dport 1001:1002 -g a_chain_of_a_rather_long_nam
-A a
-A a_chain_of_a_rather_long_nam -p udp -m udp --dport 1001 -j c
-A a_chain_of_a_rather_long_nam -m limit --limit 2/day --limit-burst 8
-A a_chain_of_a_rather_long_nam -s {peer} -p udp -m udp --dport 1002 -j RETURN
-A a_chain_of_a_rather_long_nam -p udp -m udp --dport 1007 -j DROP
-A c -j ACCEPT
COMMIT
'''
NAT = '''\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 1004 -j REDIRECT --to-ports 1005
-A POSTROUTING -o eth1 -p udp -j MASQUERADE
COMMIT
'''
UDP = '-p udp -m udp --dport 1000:1999 -j TRACE'

# (name, commands, lines are logged): one after the other
STEPS = [
    ('no TRACE', ['-I FORWARD -s {other[0]} -p udp -j DROP', '-I FORWARD -s {other[1]} -p udp -j DROP',
                  '-I FORWARD -s {other[2]} -p udp -j DROP'], False),
    ('TRACE', ['-t raw -I PREROUTING 3 ' + UDP, '-t raw -I PREROUTING 3 -p {icmp} -j TRACE',
               '-t raw -I PREROUTING 3 -p tcp -j TRACE', '-t raw -I OUTPUT -j TRACE'], True),
    ('another rule', ['-I INPUT 2 -p udp -m udp --dport 1003', '-t mangle -P INPUT DROP',
                      '-t mangle -A INPUT -j ACCEPT'], True),
    ('another helper', ['kill', '-S'], True),
    ('less TRACE', ['-t raw -D OUTPUT -j TRACE', '-t raw -D PREROUTING -p {icmp} -j TRACE'], True),
    ('another helper, and no TRACE', ['kill', '-t raw -D PREROUTING ' + UDP,
                                      '-t raw -D PREROUTING -p tcp -j TRACE'], False),
    ('TRACE in a chain that nothing calls', ['-t raw -N x', '-t raw -A x -j TRACE'], False),
    ('TRACE in a chain', ['-t raw -A seen -p udp -m udp --dport 1003 -j x'], True),
    ('no raw', ['-t raw -F', '-t raw -X'], False),
]
CONSOLE = '/proc/sys/kernel/printk'
ALL_NETNS = '/proc/sys/net/netfilter/nf_log_all_netns'


def rules(v6):
    """IPv6: without nat, so that the early stage goes through filter, too."""
    return ('' if v6 else NAT) + RULES.format(**names(v6))


def names(v6):
    net = 'fd09::{}' if v6 else '10.9.0.{}'
    many = [f'-A FORWARD -s {net.format(i)} -p udp -j DROP' for i in range(1, 40)]
    # quota: of three packets; the ruleset is set anew in the third step
    return dict(quota=180 if v6 else 120, many='\n'.join(many), peer=PEER[v6][0],
                other=[net.format(i) for i in range(50, 53)],
                icmp='ipv6-icmp' if v6 else 'icmp',
                reject='icmp6-port-unreachable' if v6 else 'icmp-port-unreachable')


class Log:
    """What the kernel logs from here on."""

    def __init__(self):
        self.fd = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)

    def lines(self):
        """(level, text) of traces and LOG since the last call, without what the kernel makes up."""
        out = []
        while True:
            try:
                head, text = os.read(self.fd, 8192).decode(errors='replace').split(';', 1)
            except BlockingIOError:
                return out
            except OSError as e:
                raise RuntimeError('lines were lost') if e.errno == errno.EPIPE else e
            text = text.split('\n', 1)[0]
            if re.match('(TRACE: |between )', text):
                if ' IN= ' in text:
                    text = re.sub(r' (ID|FLOWLBL)=\d+', '', text)
                out.append((int(head.split(',')[0]) & 7, text))

    def close(self):
        os.close(self.fd)


def frames(v6, sport):
    b, src = pkt.Builder(v6), PEER[v6][0]
    echo = 128 if v6 else 8
    for dst in (ROUTER[v6][0], PEER[v6][1]):
        parts = [(pkt.UDP, b.udp(src, dst, sport, port, b'trace'))
                 for port in (9, *range(1001, 1010), 2000)]
        parts += [(pkt.TCP, b.tcp(src, dst, sport, 25)),
                  (b.icmp_proto, b.icmp(src, dst, echo, rest=struct.pack('!HH', sport, 1)))]
        for proto, seg in parts:
            yield 0, pkt.eth(MAC_R[0], MAC_P[0], b.ethertype, b.ip(src, dst, proto, seg))


def sends(v6, sport):
    b, src, dst = pkt.Builder(v6), ROUTER[v6][1], PEER[v6][1]
    return [dict(packet=b.ip(src, dst, pkt.UDP, b.udp(src, dst, sport, port)), to=dst, uid=uid)
            for port, uid in ((1001, 0), (1003, 7))]


def command(r, text):
    if text != 'kill':
        r.firewall(*text.format(**names(r.v6)).split())
    elif r.impl.real:
        pid = r.impl.kill()
        if not pid or not dut.wait(lambda: not dut.alive(pid), 5):
            raise RuntimeError('there is no helper to be killed')


def check_status(t, r, wanted, name):
    """What `xtjit status` says of all tables; and that the early stage drops all the same."""
    text = r.ns.run(r.impl.xtjit('status'), env=r.impl.env()).stdout
    f = 'ip6' if r.v6 else 'ip'
    tables = re.findall(f'^{f} \\w+: xtjit, .*', text, re.M)
    marked = [x for x in tables if ' traced, ' in x]
    t.ok(len(tables) >= 4 and marked == (tables if wanted else []),
         f'v{6 if r.v6 else 4} {name}: status', text)
    if r.v6:
        t.eq('\nearly ip6: drops\n' in text, r.impl.early == 'on', f'v6 {name}: the early stage')


def play(t, impl, v6):
    """[(lines, what -save -c says)] of each step."""
    r, out = Router('t', impl, v6), []
    log = Log()
    try:
        r.restore(rules(v6))
        for i, (name, commands, wanted) in enumerate(STEPS):
            helper = impl.pid() if impl.real else 0
            for c in commands:
                command(r, c)
            if impl.real and 'kill' not in commands:
                t.eq(impl.pid(), helper, f'v{6 if v6 else 4} {name}: the helper')
            log.lines()
            r.inject(frames(v6, 4000 + i))
            r.local(sends(v6, 5000 + i))
            r.settle()
            out.append((log.lines(), r.save()))
            if impl.real:
                check_status(t, r, wanted, name)
                if not i:
                    text = r.ns.run(impl.xtjit('status'), env=impl.env()).stdout
                    t.ok('filter: in p' in text, f'v{6 if v6 else 4}: filter was changed', text)
    finally:
        log.close()
        r.close()
    return out


def by_packet(lines):
    """
    Each packet's lines in their order, devices and all; packets side by side are on
    different CPUs, and which of them is first is chance.
    """
    return sorted(lines, key=lambda x: re.sub(r'^TRACE: \S+ IN=\S* OUT=\S* ', '', x[1]))


def compare(t, v6, ref, got):
    for (name, _, wanted), (lines, save), (lines2, save2) in zip(STEPS, ref, got):
        label = f'v{6 if v6 else 4} {name}'
        lines, lines2 = by_packet(lines), by_packet(lines2)
        differ = [f'ip_tables {a}\nxtjit     {b}' for a, b in zip(lines, lines2) if a != b]
        t.ok(lines == lines2, f'{label}: {len(lines)} lines',
             f'{len(lines)} and {len(lines2)} lines\n' + '\n'.join(differ[:3]))
        t.ok((len([x for x in lines if 'TRACE' in x[1]]) > 20) == wanted,
             f'{label}: lines as they should be', str(lines[:3]))
        t.eq([x for x in save2.splitlines() if x[:1] != '#'],
             [x for x in save.splitlines() if x[:1] != '#'], f'{label}: counters')


def write(path, value):
    with open(path, 'w') as f:
        f.write(value)


def main():
    t = tap.Tap()
    subprocess.run(['modprobe', 'nf_log_syslog'], check=True)
    before = {}
    for path, value in ((ALL_NETNS, '1'), (CONSOLE, '1')):
        with open(path) as f:
            before[path] = f.read()
        write(path, value)
    impls = dut.make()
    try:
        for v6 in (False, True):
            ref = impls[0].result(f'trace {v6}', lambda impl: play(t, impl, v6))
            for impl in impls[1:]:
                got = t.guard('trace', play, t, impl, v6)
                if got:
                    compare(t, v6, ref, got)
            if not impls[1:]:
                t.ok(re.search(r'^\[5:\d+\] -A INPUT .*quota', ref[-1][1], re.M),
                     f'v{6 if v6 else 4}: the quota lasts for two packets, and made anew for three', ref[-1][1])
    finally:
        impls[-1].close()
        for path, value in before.items():
            write(path, value)
    return t.done()


sys.exit(main())

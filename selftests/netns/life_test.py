#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
The life of a ruleset: the same iptables commands, and the same packets between
them, as on the kernel's own ip_tables, each answer compared; devices and
namespaces that come and go; two writers at once.
"""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import pkt
import tap
from router import MAC_P, MAC_R, PEER, ROUTER, Router

# Arguments of iptables; a first word "save" or "restore" is that tool's, with the
# text after "<<"; "traffic" sends some packets.
COMMANDS = '''
-L -v -n -x
-S
-N a
-N a
-A INPUT -s {p0} -j a
-A a -p tcp --dport 80 -j ACCEPT
-A a -p udp --dport 53 -j DROP
-A INPUT -p tcp -m multiport --dports 22,80 -m comment --comment "two ports"
-A FORWARD -i eth0 -o eth1 -p udp -j ACCEPT
-P FORWARD DROP
traffic
save -c
-L -v -n -x
-L INPUT 1 -v -n -x
-L --line-numbers -n -v
-S INPUT
-S -v
-c 11 2200 -A a -p tcp --dport 443 -j RETURN
-I INPUT -p udp --dport 123
-I INPUT 2 -p udp --dport 124 -j ACCEPT
-I INPUT 99 -j DROP
traffic
save -c
-R INPUT 1 -p udp --dport 53
-R INPUT 77 -j DROP
-C INPUT -s {p0} -j a
-C INPUT -s {p1} -j a
-Z INPUT 2
traffic
save -c
-D INPUT 2
-D INPUT -p tcp --dport 9999
-D a -p tcp --dport 80 -j ACCEPT
-E a b
-E nosuch c
-X b
-N unused
-X unused
-A nosuch -j DROP
-A INPUT -j nosuch
-A INPUT -m nosuch
-P INPUT DROP
-P nosuch DROP
-P b DROP
-A b -j INPUT
-N c
-A b -j c
-A c -j b
-A INPUT -g c
-A INPUT -j RETURN
traffic
save -c
-L -Z -v -n -x
save -c
traffic
-Z b
save -c
-F b
-Z
traffic
-S -v
-t mangle -A PREROUTING -p udp -j DROP
-t mangle -A POSTROUTING -o eth1
-t mangle -P OUTPUT DROP
-t raw -A PREROUTING -p tcp --dport 80 -j DROP
-t raw -A OUTPUT
-t security -A INPUT -j ACCEPT
-t nosuch -L -n
-t raw -A INPUT -j DROP
-t raw -L -n -v -x
traffic
save -c
save -c -t mangle
-t mangle -F
-t raw -F PREROUTING
restore -n << *filter\\n:d - [0:0]\\n-A INPUT -j d\\n-A d -p tcp -j ACCEPT\\nCOMMIT\\n
restore -n -c << *filter\\n[5:500] -A INPUT -p udp -j ACCEPT\\n-I d -p udp\\nCOMMIT\\n
restore -n << *filter\\n-A INPUT -j ACCEPT\\n-A d -j nosuch\\nCOMMIT\\n
restore --test << *filter\\n-F\\nCOMMIT\\n
traffic
save -c
restore -c << *filter\\n:INPUT DROP [3:300]\\\n[7:777] -A INPUT -p tcp\\nCOMMIT\\n
restore -n -c << *filter\\n[8:888] -A FORWARD -p tcp -j DROP\\nCOMMIT\\n
save -c
traffic
save -c
-t filter -D FORWARD 1
-A FORWARD -p tcp -m tcp --dport 80 --syn -j REJECT --reject-with tcp-reset
-A FORWARD -p udp -j REJECT
traffic
save -c
-F
-X
-P INPUT ACCEPT
-P FORWARD ACCEPT
traffic
save -c
-t mangle -P OUTPUT ACCEPT
-w 5 -A INPUT -j ACCEPT
-L -n -x
'''


def packets(v6, ports=(0, 1)):
    """A few packets of each kind, in and through."""
    b, out = pkt.Builder(v6), []
    for port in ports:
        side = min(port, 1)
        s = PEER[v6][side]
        for d in (ROUTER[v6][side], PEER[v6][1 - side]):
            for dport in (22, 53, 80, 123, 124, 443):
                for proto, seg in ((pkt.TCP, b.tcp(s, d, 1000, dport)),
                                   (pkt.UDP, b.udp(s, d, 1000, dport, b'x' * dport))):
                    out.append((port, pkt.eth(MAC_R[side], MAC_P[side], b.ethertype,
                                              b.ip(s, d, proto, seg))))
    return out


def command(r, line):
    """One line of COMMANDS on one router: (status, stdout, stderr)."""
    if line == 'traffic':
        r.inject(packets(r.v6))
        r.settle()
        return None
    line, _, text = line.partition(' << ')
    words = re.findall(r'"[^"]*"|\S+', line)
    tool = '-' + words.pop(0) if words[0] in ('save', 'restore') else ''
    words = [w.strip('"') for w in words]
    p = r.firewall(*words, tool=tool, check=False, input=text.replace('\\n', '\n'))
    out = re.sub(r'(?m)^# (Generated|Completed).*\n', '', p.stdout)
    return p.returncode, out, re.sub(r'\(line \d+\)', '', p.stderr)


def all_commands(impl, v6):
    """[(line, what came of it)], and what is saved in the end."""
    r = Router('l', impl, v6)
    try:
        lines = COMMANDS.strip().format(p0=PEER[v6][0], p1=PEER[v6][1]).splitlines()
        return [(line, command(r, line)) for line in lines], r.save()
    finally:
        r.close()


def test_commands(t, impls, v6):
    results = [m.result(('commands', v6), lambda m: all_commands(m, v6)) for m in impls]
    want, end = results[0]
    for impl, (got, save) in zip(impls[1:], results[1:]):
        label = f'v{6 if v6 else 4} {impl.name}'
        for (line, a), (_, b) in zip(want, got):
            if line != 'traffic':
                t.eq(b, a, f'{label}: {line[:60]}')
        bad = diff.compare_save(end, save)
        t.ok(not bad, f'{label}: in the end', '\n'.join(bad))


DEVICES = '''*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i late0 -p tcp -j DROP
-A INPUT -i late0
-A INPUT -i late+ -p udp --dport 53 -j DROP
-A INPUT -i wan+ -j DROP
-A INPUT ! -i eth0 -p udp --dport 22 -j DROP
-A INPUT -i eth1
-A FORWARD -o late1
-A FORWARD -i wan7 -j DROP
-A FORWARD -o wan+ -j DROP
-A FORWARD -i eth+ -o eth+
COMMIT
'''


def rename(r, old, new):
    """While it is up, which older kernels (6.1) refuse."""
    try:
        r.ns.ip(f'link set {old} name {new}')
    except RuntimeError:
        r.ns.ip(f'link set {old} down', f'link set {old} name {new}', f'link set {new} up')


def device_steps(r):
    """Devices appear, change their names, go; packets in each state."""
    texts = []

    def traffic(*ports):
        r.inject(packets(r.v6, ports))
        r.settle()
        # What a new IPv6 device says by itself is not counted here.
        texts.append(re.sub('(?m)^:OUTPUT .*\n', '', r.save()))

    r.restore(DEVICES)
    traffic(0, 1)
    n = r.add_device('late0', 'p2')
    traffic(0, 1, n)
    rename(r, 'late0', 'late1')
    traffic(n, 0, 1)
    r.ns.ip('link set late1 down', 'link set late1 name wan7', 'link set wan7 up')
    traffic(n, 0)
    rename(r, 'eth1', 'wan1')
    traffic(0, 1, n)
    r.firewall('-I', 'INPUT', '-i', 'wan1', '-p', 'tcp', '--dport', '80')
    traffic(0, 1, n)
    r.remove_device('wan7', n)
    traffic(0, 1)
    m = r.add_device('wan7', 'p3')
    r.firewall('-D', 'INPUT', '1')
    traffic(0, 1, m)
    rename(r, 'wan1', 'eth1')
    traffic(0, 1, m)
    return texts


def devices(impl, v6):
    r = Router('d', impl, v6)
    try:
        return device_steps(r)
    finally:
        r.close()


def test_devices(t, impls, v6):
    results = [m.result(('devices', v6), lambda m: devices(m, v6)) for m in impls]
    for impl, texts in zip(impls[1:], results[1:]):
        for step, (a, b) in enumerate(zip(results[0], texts)):
            bad = diff.compare_save(a, b)
            t.ok(not bad, f'v{6 if v6 else 4} {impl.name}: devices, step {step}', '\n'.join(bad))


def test_writers(t, impl):
    """Two loops of iptables -w: no rule of either is lost."""
    r = Router('w', impl, False)
    try:
        r.restore('*filter\n:A - [0:0]\n:B - [0:0]\nCOMMIT\n')
        loop = ('for i in $(seq 40); do ' + ' '.join(impl.command('iptables-legacy')) +
                ' -w 30 -A {0} -p tcp --dport $i -j ACCEPT || exit 1; done')
        jobs = [r.ns.popen(['sh', '-c', loop.format(c)], env=impl.env()) for c in 'AB']
        t.eq([j.wait() for j in jobs], [0, 0], f'{impl.name}: two writers')
        lines = diff.tables(r.save())['*filter']
        for c in 'AB':
            own = [line for line in lines if f'-A {c} ' in line]
            want = [f'[0:0] -A {c} -p tcp -m tcp --dport {i} -j ACCEPT' for i in range(1, 41)]
            t.eq(own, want, f'{impl.name}: the rules of writer {c}')
    finally:
        r.close()


def test_namespace(t, impl, v6):
    """A namespace is deleted: what was kept for it and its devices go."""
    r = Router('g', impl, v6)
    text = DEVICES.replace('*filter', '*mangle') + DEVICES
    r.restore(text.replace('-A INPUT ! -i', '-A INPUT -m conntrack --ctstate NEW ! -i'))
    r.inject(packets(v6))
    label = f'v{6 if v6 else 4} {impl.name}: namespace deleted'
    try:
        if impl.real:
            t.ok(dut.pins([r.ns.cookie]), f'{label}: something was pinned before')
        for s in (*r.ports, *r.marks):
            s.close()
        r.ns.delete()
        t.ok(dut.wait(lambda: not dut.pins([r.ns.cookie]), 5), f'{label}: pins',
             str(dut.pins([r.ns.cookie])))
        t.ok(dut.wait(lambda: 'p0' not in r.peer.devices(), 5), f'{label}: devices')
        if impl.real:
            t.ok(impl.pid(), f'{label}: the helper is still there')
    finally:
        r.close()


def test_born_inside(t):
    """A helper that was started in a namespace does not hold it."""
    impl = dut.Xtjit(start=False)
    r = Router('b', impl, False)
    try:
        r.restore(DEVICES)
        for s in (*r.ports, *r.marks):
            s.close()
        r.ns.delete()
        t.ok(dut.wait(lambda: 'p0' not in r.peer.devices() and not impl.left(), 6),
             'the namespace in which the helper was started can be deleted', impl.left())
    finally:
        r.close()
        impl.close()


def main():
    t = tap.Tap()
    impls = dut.make(fallback='refuse')
    try:
        for v6 in (False, True):
            t.guard('commands', test_commands, t, impls, v6)
            t.guard('devices', test_devices, t, impls, v6)
            for impl in impls[1:]:
                t.guard('namespace', test_namespace, t, impl, v6)
        for impl in impls[1:]:
            t.guard('writers', test_writers, t, impl)
        if diff.shim(impls[-1]):
            t.guard('started inside', test_born_inside, t)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())

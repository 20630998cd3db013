#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
Packets per second of one receiving namespace, side by side:

    generator namespace                  receiver namespace, one a configuration
    XDP program, live frames  -> g0  <--- veth --->  r0, GRO on (NAPI)

The frames are made in the kernel (BPF_PROG_TEST_RUN) and received on the same CPU,
so that a packet's whole cost counts.  Rounds go through all configurations in turn;
the median of a configuration's rounds is its result.

    bench.py [--rounds N] [--seconds S] [--check]

--check: exit status 1 unless xtjit's one DROP rule has 0.8 of the limit, and its ten
rules and ACCEPT are not slower than ip_tables (3 % for noise).
"""
import argparse
import os
import socket
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import bpfsys
import dut
import flow
import pkt
from netns import Netns
from router import MAC_P, MAC_R, mac_text

PORT = 5555
ONE = '*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.71.0.2 -p udp --dport 5555 -j DROP\nCOMMIT\n'
RAW = ONE.replace('filter', 'raw').replace('INPUT', 'PREROUTING')
TEN = ('*filter\n:INPUT ACCEPT [0:0]\n' + ''.join(f'-A INPUT {r} -j DROP\n' for r in (
    '-s 192.0.2.0/24', '-s 198.51.100.7', '-p tcp --dport 22', '-p tcp --dport 23',
    '-p udp --dport 53', '-p udp --dport 123 -s 203.0.113.0/24', '-p icmp',
    '-d 10.71.0.9', '-p udp -m multiport --dports 137,138,1900')) +
       '-A INPUT -p udp --dport 5555 -j ACCEPT\nCOMMIT\n')


class Receiver:
    def __init__(self, name, impl=None, rules='', xdp_drop=False):
        self.name, self.impl = name, impl
        self.gen, self.ns = Netns('bg'), Netns('br')
        self.socket = self.link = None
        if impl:
            impl.cookies.append(self.ns.cookie)
        try:
            self.build()
            if rules:
                self.ns.run(impl.command('iptables-legacy-restore'), input=rules, env=impl.env())
            if xdp_drop:
                with self.ns:
                    self.link = bpfsys.attach_xdp(bpfsys.verdict_program(bpfsys.XDP_DROP),
                                                  socket.if_nametoindex('r0'))
        except Exception:
            self.close()
            raise

    def build(self):
        self.ns.sysctl(net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0,
                       net__ipv6__conf__default__disable_ipv6=1)
        self.gen.sysctl(net__ipv6__conf__default__disable_ipv6=1)
        self.ns.ip(f'link add name r0 address {mac_text(MAC_R[0])} type veth peer name g0 '
                   f'address {mac_text(MAC_P[0])} netns {self.gen.name}',
                   'link set lo up', 'link set r0 arp off up', 'addr add 10.71.0.1/24 dev r0')
        self.gen.ip('link set lo up', 'link set g0 arp off up')
        flow.set_offload(self.ns, 'r0', 'gro', 1)
        self.socket = self.ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self.socket.bind(('', PORT))
        b = pkt.Builder(False)
        s, d = '10.71.0.2', '10.71.0.1'
        self.frame = pkt.pad(pkt.eth(MAC_R[0], MAC_P[0], 0x800, b.ip(
            s, d, pkt.UDP, b.udp(s, d, 4000, PORT, b'bench' * 3))))
        with self.gen:
            self.prog = bpfsys.redirect_program(socket.if_nametoindex('g0'))

    def send(self, count):
        """Packets a second, of those that were received."""
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cpus)})
        try:
            with self.gen:
                before, start = self.ns.devices()['r0'][1], time.perf_counter()
                bpfsys.send(self.prog, self.frame, count)
                seconds = time.perf_counter() - start
        finally:
            os.sched_setaffinity(0, cpus)
        return (self.ns.devices()['r0'][1] - before) / seconds

    def close(self):
        self.socket and self.socket.close()
        self.link and os.close(self.link)
        for n in (self.gen, self.ns):
            n.delete()


def receivers(impls):
    out = [Receiver('XDP drop without looking (the limit)', xdp_drop=True),
           Receiver('no firewall, to a socket'),
           Receiver('drop: ip_tables, raw', impls[0], RAW),
           Receiver('drop: ip_tables, filter', impls[0], ONE)]
    try:
        for rules, what in ((ONE, 'drop: '), (TEN, 'ten rules: ')):
            if rules is TEN:
                out.append(Receiver(what + 'ip_tables', impls[0], rules))
            for m in impls[1:]:
                out.append(Receiver(what + 'xtjit ' + m.name, m, rules))
    except Exception:
        for r in out:
            r.close()
        raise
    return out


def measure(all_, rounds, seconds):
    """{name: median}"""
    rates = {r.name: [] for r in all_}
    counts = {}
    for r in all_:			# warm, and how many fit into the time
        r.send(20000)
        counts[r.name] = max(20000, int(r.send(100000) * seconds))
    for _ in range(rounds):
        for r in all_:
            rates[r.name].append(r.send(counts[r.name]))
    return {n: statistics.median(x) for n, x in rates.items()}


def judge(result):
    """Texts of what is not as it must be."""
    out = []
    limit = result['XDP drop without looking (the limit)']
    drop = result.get('drop: xtjit early=on', 0)
    if drop < 0.8 * limit:
        out.append(f'one DROP rule has {drop / limit:.2f} of the limit, not 0.80')
    ten, ref = result.get('ten rules: xtjit early=on', 0), result['ten rules: ip_tables']
    if ten < 0.97 * ref:
        out.append(f'ten rules and ACCEPT have {ten / ref:.2f} of ip_tables')
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--rounds', type=int, default=5)
    a.add_argument('--seconds', type=float, default=0.3, help='of each measurement')
    a.add_argument('--check', action='store_true')
    o = a.parse_args()
    impls = dut.make()
    all_ = []
    try:
        all_ = receivers(impls)
        result = measure(all_, o.rounds, o.seconds)
    finally:
        for r in all_:
            r.close()
        impls[-1].close()
    limit = result['XDP drop without looking (the limit)']
    for name, rate in result.items():
        print(f'{name:40} {rate / 1e6:6.2f} Mpps  {rate / limit:5.2f} of the limit')
    bad = judge(result) if o.check else []
    for text in bad:
        print(f'FAIL: {text}')
    return 1 if bad else 0


sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
What ten rules cost a packet that the last of them accepts: with the module not more
than with ip_tables.  The time of sending to a device that drops everything, the best
of many short runs, without rules and with them.  In a VM whose clock counts
instructions (vm/cost_test.sh): by any other it depends on what else the machine does.
"""
import ctypes
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import kmod
import tap
from netns import Netns, libc, run

BATCH, RUNS = 64, 200
RULES = '''*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT -s 192.0.2.7/32 -j DROP
-A OUTPUT -d 198.51.100.0/24 -j DROP
-A OUTPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A OUTPUT -p tcp -m tcp --dport 80 -j ACCEPT
-A OUTPUT -p udp -m udp --dport 53 -j ACCEPT
-A OUTPUT -o eth9 -j DROP
-A OUTPUT -p icmp -j ACCEPT
-A OUTPUT -p udp -m udp --dport 123 -j DROP
-A OUTPUT -s 203.0.113.0/24 -p udp -m udp --dport 9 -j DROP
-A OUTPUT -p udp -m udp --dport 9 -j ACCEPT
COMMIT
'''
NONE = '*filter\nCOMMIT\n'


class Iovec(ctypes.Structure):
    _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [('name', ctypes.c_void_p), ('namelen', ctypes.c_uint), ('iov', ctypes.c_void_p),
                ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p),
                ('controllen', ctypes.c_size_t), ('flags', ctypes.c_int), ('pad', ctypes.c_uint),
                ('sent', ctypes.c_size_t)]


class Sender:
    """Sends batches of datagrams by one system call each."""

    def __init__(self, ns):
        self.sock = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(('10.0.0.2', 9))
        self.iov = Iovec(b'x' * 20, 20)
        self.batch = (Mmsghdr * BATCH)()
        for m in self.batch:
            m.iov, m.iovlen = ctypes.addressof(self.iov), 1

    def once(self):
        """Nanoseconds a datagram."""
        fd = self.sock.fileno()
        start = time.perf_counter_ns()
        n = libc.sendmmsg(fd, self.batch, BATCH, 0)
        took = time.perf_counter_ns() - start
        if n != BATCH:
            raise OSError(ctypes.get_errno(), f'sendmmsg: {n}')
        return took / BATCH

    def best(self):
        return min(self.once() for _ in range(RUNS))

    def close(self):
        self.sock.close()


def measure(which):
    """(without rules, with the ten): the table is there both times."""
    (kmod.xtjit_in if which == 'xtjit' else lambda: run(['modprobe', 'iptable_filter']))()
    ns = Netns('cost')
    try:
        ns.ip('link add d0 type dummy', 'addr add 10.0.0.1/24 dev d0', 'link set d0 arp off up')
        s = Sender(ns)
        bare = s.best()
        ns.run(['iptables-legacy-restore'], input=NONE)
        empty = s.best()
        ns.run(['iptables-legacy-restore'], input=RULES)
        ten = s.best()
        save = ns.run(['iptables-legacy-save', '-c', '-t', 'filter']).stdout
        s.close()
    finally:
        ns.delete()
        (kmod.xtjit_out if which == 'xtjit' else kmod.legacy_out)()
    if f'[{RUNS * BATCH}:' not in save:
        raise RuntimeError(f'not all were counted: {save}')
    return bare, empty, ten


def main():
    t = tap.Tap()
    costs = {}
    for which in ('ip_tables', 'xtjit'):
        bare, empty, ten = measure(which)
        costs[which] = ten - bare
        print(f'# note: {which}: {bare:.0f} ns a packet without a table, {empty:.0f} with an empty '
              f'one, {ten:.0f} with ten rules: they cost {ten - bare:.0f}')
    ratio = costs['xtjit'] / costs['ip_tables']
    print(f'# note: ten rules, ACCEPT by the last: xtjit {ratio:.2f} of ip_tables')
    t.ok(0 < ratio <= 1, f'ten rules cost not more than with ip_tables: {ratio:.2f} of it')
    return t.done()


sys.exit(main())

# SPDX-License-Identifier: GPL-2.0
"""
One receiving namespace, and the namespace that frames come from:

    generator namespace                  receiver namespace
    XDP program, live frames  -> g0  <--- veth --->  r0, GRO on (NAPI)

The frames are made in the kernel (BPF_PROG_TEST_RUN) and received on the same CPU,
within the call that sends them, so that a packet's whole cost counts.
"""
import functools
import os
import socket
import time

import bpfsys
import feed
import flow
from netns import Netns
from router import MAC_P, MAC_R, mac_text

PORT = 5555			# of the socket that accepted packets go to
LOCAL = [f'10.71.0.{i}' for i in (1, 2, 3, 4)]
PEER = '10.71.0.250'
CPU = max(os.sched_getaffinity(0))


@functools.lru_cache(None)
def softirqd():
    """The thread that softirqs are left to when there is much of them: its process id."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/comm') as f:
                if f.read().strip() == f'ksoftirqd/{CPU}':
                    return pid
        except FileNotFoundError:
            pass
    raise FileNotFoundError(f'ksoftirqd/{CPU}')


def cpu_time():
    """Seconds that this thread, and softirqs deferred from it, have run."""
    with open(f'/proc/{softirqd()}/schedstat') as f:
        return time.thread_time() + int(f.read().split()[0]) / 1e9


class Receiver:
    def __init__(self, port=PORT):
        self.gen, self.ns = Netns('bg'), Netns('br')
        self.socket, self.port = None, port
        self.programs = {}			# by Keys: an fd
        self.links = []
        try:
            self.build()
        except Exception:
            self.close()
            raise

    def build(self):
        quiet = dict(net__ipv6__conf__default__disable_ipv6=1,
                     net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0)
        self.ns.sysctl(**quiet)
        self.gen.sysctl(**quiet)
        self.ns.ip(f'link add name r0 address {mac_text(MAC_R[0])} type veth peer name g0 '
                   f'address {mac_text(MAC_P[0])} netns {self.gen.name}',
                   'link set lo up', 'link set r0 arp off up',
                   *(f'addr add {a}/24 dev r0' for a in LOCAL),
                   f'neigh replace {PEER} lladdr {mac_text(MAC_P[0])} dev r0 nud permanent',
                   f'route add default via {PEER}')
        self.gen.ip('link set lo up', 'link set g0 arp off up', f'addr add {PEER}/24 dev g0',
                    f'neigh replace {LOCAL[0]} lladdr {mac_text(MAC_R[0])} dev g0 nud permanent')
        flow.set_offload(self.ns, 'r0', 'gro', 1)
        self.socket = self.ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self.socket.bind(('', self.port))
        self.frame = feed.frame(MAC_R[0], MAC_P[0])

    def attach(self, verdict):
        """An XDP program that does not look."""
        with self.ns:
            prog = bpfsys.verdict_program(verdict)
            self.links.append(bpfsys.attach_xdp(prog, socket.if_nametoindex('r0')))
            os.close(prog)

    def program(self, keys):
        if keys not in self.programs:
            with self.gen:
                self.programs[keys] = keys.program(socket.if_nametoindex('g0'))
        return self.programs[keys]

    def send(self, keys, count):
        """
        Sends @count frames: (seconds, frames received, how many of them rules let in).  The time
        is the CPU's: setting up and ending the call waits for the kernel's grace periods, and
        who else runs on the CPU is not to be counted.
        """
        prog, cpus = self.program(keys), os.sched_getaffinity(0)
        os.sched_setaffinity(0, {CPU})
        try:
            with self.gen:
                before, start = self.counts(), cpu_time()
                bpfsys.send(prog, self.frame, count)
                seconds = cpu_time() - start
        finally:
            os.sched_setaffinity(0, cpus)
        return (seconds, *(a - b for a, b in zip(self.counts(), before)))

    def counts(self):
        """Frames received, and IP packets that went on to a protocol."""
        with self.ns, open('/proc/thread-self/net/snmp') as f:
            names, values = (line.split() for line in f.read().splitlines()[:2])
        return self.ns.devices()['r0'][1], int(values[names.index('InDelivers')])

    def close(self):
        self.socket and self.socket.close()
        for fd in [*self.programs.values(), *self.links]:
            os.close(fd)
        self.programs, self.links = {}, []
        for n in (self.gen, self.ns):
            n.delete()

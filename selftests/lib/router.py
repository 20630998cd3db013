# SPDX-License-Identifier: GPL-2.0
"""
A router under test and its neighbour, for injected frames.

     router namespace                         peer namespace
     ifs[0]  10.71.0.1/24  fd71::1/64  <--->  p0, no address (10.71.0.2, fd71::2)
     ifs[1]  10.72.0.1/24  fd72::1/64  <--->  p1, no address (10.72.0.2, fd72::2)
     default route via 10.72.0.2, fd72::2

Nothing on it sends by itself: static neighbours, no ARP, no reports, no limits
on ICMP; so that two of them can be compared counter by counter.
"""
import ctypes
import errno
import os
import socket
import struct
import time

import pkt
from dut import wait
from netns import Netns, libc

MAC_R = [pkt.mac('02:00:00:00:a1:01'), pkt.mac('02:00:00:00:a1:02')]
MAC_P = [pkt.mac('02:00:00:00:b1:01'), pkt.mac('02:00:00:00:b1:02')]
ROUTER = {False: ['10.71.0.1', '10.72.0.1'], True: ['fd71::1', 'fd72::1']}
PEER = {False: ['10.71.0.2', '10.72.0.2'], True: ['fd71::2', 'fd72::2']}
MARKER = 0x88b5			# EtherType for local experiments
BURST = 48			# frames between two markers; veth's ring has 256
SO_RCVBUFFORCE, SO_MARK, SOL_PACKET, PACKET_IGNORE_OUTGOING = 33, 36, 263, 23
SYS_setgroups = 116

QUIET = dict(
    net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1,
    net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__default__rp_filter=0,
    net__ipv4__conf__all__accept_local=1, net__ipv4__conf__default__accept_local=1,
    net__ipv4__conf__all__send_redirects=0, net__ipv4__conf__default__send_redirects=0,
    net__ipv4__icmp_ratelimit=0, net__ipv4__icmp_msgs_per_sec=10000000,
    net__ipv4__icmp_msgs_burst=10000000, net__ipv4__igmp_link_local_mcast_reports=0,
    net__ipv6__icmp__ratelimit=0, net__ipv6__conf__all__accept_dad=0,
    net__ipv6__conf__default__accept_dad=0, net__ipv6__conf__default__accept_ra=0,
    net__ipv6__conf__default__router_solicitations=0,
    net__ipv6__conf__default__addr_gen_mode=1,
    net__ipv6__conf__default__mldv2_unsolicited_report_interval=0,
    net__ipv6__conf__all__mldv2_unsolicited_report_interval=0,
    net__ipv6__mld_qrv=1,
)


def mac_text(b):
    return ':'.join(f'{x:02x}' for x in b)


class Router:
    """
    @hosts: addresses that are local too, on lo.  @patient: REJECT's answers are to
    come before the next packet between the same hosts: later ones, which may find a
    connection that has begun since, differ from the kernel's own (README, limits).
    """

    def __init__(self, tag, impl, v6, ifs=('eth0', 'eth1'), hosts=(), patient=False):
        self.impl, self.v6, self.ifs = impl, v6, ifs
        self.patient = patient and impl.answers
        self.talking = set()	# hosts with packets since the last wait
        self.tool = 'ip6tables-legacy' if v6 else 'iptables-legacy'
        self.ns, self.peer = Netns(tag + 'r'), Netns(tag + 'p')
        impl.cookies.append(self.ns.cookie)
        self.serial = 0
        self.sockets = {}
        try:
            self.build(hosts)
            self.open_sockets()
            if v6:		# each device has made its two multicast listener reports
                wait(lambda: all(self.ns.devices()[i][9] >= 2 for i in ifs), 2)
                self.settle(quiet=0.1)
                self.captured()
        except Exception:
            self.close()
            raise

    def build(self, hosts):
        self.peer.sysctl(net__ipv6__conf__default__disable_ipv6=1,
                         net__ipv6__conf__all__disable_ipv6=1)
        self.ns.sysctl(**QUIET)
        bits, dad = ('64', ' nodad') if self.v6 else ('24', '')
        lines, plines = ['link set lo up'], []
        for i, name in enumerate(self.ifs):
            lines += [
                f'link add name {name} address {mac_text(MAC_R[i])} type veth peer '
                f'name p{i} address {mac_text(MAC_P[i])} netns {self.peer.name}',
                f'link set {name} arp off up',
                f'addr add {ROUTER[self.v6][i]}/{bits} dev {name}{dad}',
                f'neigh replace {PEER[self.v6][i]} lladdr {mac_text(MAC_P[i])} '
                f'dev {name} nud permanent']
            plines.append(f'link set p{i} arp off up')
        if self.v6:		# all on-link hosts are behind the one known neighbour
            for i, name in enumerate(self.ifs):
                net = PEER[True][i][:-1] + '/64'
                lines += [f'route add {PEER[True][i]}/128 dev {name}',
                          f'route del {net} dev {name} proto kernel',
                          f'route add {net} via {PEER[True][i]} dev {name}']
        lines.append(f'route add default via {PEER[self.v6][1]} dev {self.ifs[1]}')
        lines += [f"addr add {h}/{'128' if self.v6 else '32'} dev lo{dad}" for h in hosts]
        self.ns.ip(*lines)
        self.peer.ip(*plines)

    def open_sockets(self):
        self.ports, self.marks = [], []
        for i, name in enumerate(self.ifs):
            self.open_port(f'p{i}', name)

    def open_port(self, port, name):
        p = self.peer.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        p.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        p.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        p.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        p.bind((port, 3))
        p.setblocking(False)
        self.ports.append(p)
        m = self.ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(MARKER))
        m.bind((name, MARKER))
        m.settimeout(3)
        self.marks.append(m)

    def add_device(self, name, port):
        """One more device, up, with the MAC addresses of port 1; its number for inject()."""
        self.ns.ip(f'link add name {name} address {mac_text(MAC_R[1])} type veth peer name '
                   f'{port} address {mac_text(MAC_P[1])} netns {self.peer.name}',
                   f'link set {name} arp off up')
        self.peer.ip(f'link set {port} arp off up')
        self.open_port(port, name)
        return len(self.ports) - 1

    def remove_device(self, name, number):
        self.ns.ip(f'link del {name}')
        self.ports[number].close()
        self.marks[number].close()

    # --- the firewall

    def firewall(self, *args, check=True, tool='', **kw):
        """Runs iptables ARGS, iptables-save or -restore ARGS (@tool: '-save')."""
        return self.ns.run(self.impl.command(self.tool + tool) + list(args), check,
                           env=self.impl.env(), **kw)

    def restore(self, text, *flags, check=True):
        return self.firewall(*flags, tool='-restore', check=check, input=text)

    def save(self, *args):
        return self.firewall('-c', *args, tool='-save').stdout

    def kernel_rules(self):
        """-save's text of what is in the kernel's own ip_tables."""
        return self.ns.run([self.tool + '-save']).stdout

    # --- frames

    def inject(self, frames):
        """
        Sends (port, frame) pairs.  All of them are through when it returns, in
        this order: a burst ends by a marker that has come out at the router.
        """
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})	# veth's backlog is per CPU
        try:
            count, last = 0, None
            for port, frame in frames:
                hosts = pkt.frame_hosts(frame)
                wait = self.patient and hosts in self.talking
                if last is not None and (wait or port != last or count >= BURST):
                    self.barrier(last)
                    count = 0
                if wait:
                    self.idle()
                self.talking.add(hosts)
                self.ports[port].send(frame)
                count, last = count + 1, port
            if last is not None:
                self.barrier(last)
        finally:
            os.sched_setaffinity(0, cpus)
        lost = sum(d[11] for d in self.peer.devices().values())
        if lost:
            raise RuntimeError(f'{lost} frames were lost between peer and router')

    def idle(self):
        self.impl.idle(self.ns)
        self.talking.clear()

    def barrier(self, port):
        self.serial += 1
        want = struct.pack('!Q', self.serial)
        self.ports[port].send(pkt.eth(MAC_R[port > 0], MAC_P[port > 0], MARKER, want))
        got = b''
        while got != want:
            try:
                got = self.marks[port].recv(64)[14:22]
            except OSError as e:
                if e.errno != errno.ENETDOWN:	# said once, of a device that was down
                    raise

    def local(self, ops):
        """
        Sends from the router itself: dicts of packet= (bytes from the IP header
        on), to=, uid=, gid=, groups=, mark=.  The errno of each send.
        """
        out = []
        for op in ops:
            if self.patient:
                self.idle()
            out.append(self.send_one(**op))
        return out

    def send_one(self, packet, to, uid=0, gid=0, groups=(), mark=0, sport=0, via=None):
        """With @sport a UDP socket sends @packet as its payload; else a raw one."""
        key = (uid, gid, groups, mark, sport)
        s = self.sockets.get(key)
        if not s:
            s = self.sockets[key] = self.user_socket(uid, gid, groups, mark, sport)
        addr = (to, 9) if sport else (to, 0)
        try:
            s.sendto(packet, addr)
            return 0
        except OSError as e:
            return e.errno

    def user_socket(self, uid, gid, groups, mark, sport):
        """A socket whose file belongs to @uid: only this thread changes its ids."""
        fam = socket.AF_INET6 if self.v6 else socket.AF_INET
        setgroups(groups)
        libc.setfsgid(gid)
        libc.setfsuid(uid)
        try:
            if sport:
                s = self.ns.socket(fam, socket.SOCK_DGRAM)
                s.bind(('', sport))
            else:
                s = self.ns.socket(fam, socket.SOCK_RAW, socket.IPPROTO_RAW)
                if not self.v6:
                    s.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
            if not sport or not self.v6:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if mark:
                s.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        finally:
            libc.setfsuid(0)
            libc.setfsgid(0)
            setgroups(())
        return s

    def settle(self, quiet=None, limit=4.0):
        """Waits until nothing has moved on any device for @quiet seconds."""
        if quiet is None:
            quiet = 0.06 if self.impl.answers else 0.02
        end = time.monotonic() + limit
        last, since = None, time.monotonic()
        while time.monotonic() < end:
            now = self.ns.devices()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since >= quiet:
                return
            time.sleep(0.005)

    def captured(self):
        """Frames that came out of the router since the last call: (port, frame)."""
        out = []
        for i, p in enumerate(self.ports):
            while True:
                try:
                    out.append((i, p.recv(65536)))
                except BlockingIOError:
                    break
        return out

    def close(self):
        for s in (*getattr(self, 'ports', ()), *getattr(self, 'marks', ()),
                  *self.sockets.values()):
            s.close()
        self.ns.delete()
        self.peer.delete()


def setgroups(groups):
    """Of this thread only: the C library would change all threads."""
    arr = (ctypes.c_uint * len(groups))(*groups)
    libc.syscall(SYS_setgroups, len(groups), arr)

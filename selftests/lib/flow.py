# SPDX-License-Identifier: GPL-2.0
"""
Two hosts with real sockets, and the router under test between them:

     client              router                       server
     eth0  <--->  eth0 .71.0.1   eth1 .72.0.1  <--->  eth0
     10.71.0.2    fd71::1            fd72::1          10.72.0.2
     fd71::2                          MTU 1300        fd72::2

Static neighbours and no segmentation offload: what the hosts send is what they
mean to.
"""
import array
import errno
import fcntl
import select
import socket
import struct
import threading
import time

import pkt
from netns import Netns
from router import MAC_R, MAC_P, QUIET, SO_RCVBUFFORCE, mac_text

ADDR = {False: dict(c='10.71.0.2', s='10.72.0.2', r='10.71.0.1', r1='10.72.0.1'),
        True: dict(c='fd71::2', s='fd72::2', r='fd71::1', r1='fd72::1')}
MTU = 1300
SIOCETHTOOL, ETHTOOL = 0x8946, dict(tso=0x1f, gso=0x24, gro=0x2c)
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO, PMTUDISC_PROBE = 10, 23, 2, 3


class Triangle:
    def __init__(self, impl, v6, mtu=MTU):
        self.impl, self.v6, self.mtu = impl, v6, mtu
        self.addr = ADDR[v6]
        self.tool = 'ip6tables-legacy' if v6 else 'iptables-legacy'
        self.family = socket.AF_INET6 if v6 else socket.AF_INET
        self.hosts = {k: Netns('f' + k) for k in 'crs'}
        impl.cookies.append(self.hosts['r'].cookie)
        self.servers = []
        self.sniffers = []
        try:
            self.build()
        except Exception:
            self.close()
            raise

    def build(self):
        r = self.hosts['r']
        bits, dad = ('64', ' nodad') if self.v6 else ('24', '')
        for h in self.hosts.values():
            h.sysctl(**QUIET)
        lines = ['link set lo up']
        for i, (k, gw) in enumerate((('c', 'r'), ('s', 'r1'))):
            peer, a, mtu = self.hosts[k], self.addr, f' mtu {self.mtu}' if i else ''
            lines += [f'link add name eth{i} address {mac_text(MAC_R[i])}{mtu} type veth peer name '
                      f'eth0 address {mac_text(MAC_P[i])}{mtu} netns {peer.name}',
                      f'link set eth{i} arp off up', f'addr add {a[gw]}/{bits} dev eth{i}{dad}',
                      f'neigh replace {a[k]} lladdr {mac_text(MAC_P[i])} dev eth{i} nud permanent']
        r.ip(*lines)
        for i, (k, gw) in enumerate((('c', 'r'), ('s', 'r1'))):
            a = self.addr
            self.hosts[k].sysctl(net__ipv4__ip_forward=0, net__ipv6__conf__all__forwarding=0)
            self.hosts[k].ip('link set lo up', 'link set eth0 arp off up',
                             f'addr add {a[k]}/{bits} dev eth0{dad}',
                             f'neigh replace {a[gw]} lladdr {mac_text(MAC_R[i])} dev eth0 '
                             'nud permanent',
                             f'route add default via {a[gw]}')
            no_offload(self.hosts[k], 'eth0')
            no_offload(r, f'eth{i}')
        if self.v6:		# multicast listener reports are out
            time.sleep(0.3)

    def firewall(self, *args, tool='', check=True, **kw):
        return self.hosts['r'].run(self.impl.command(self.tool + tool) + list(args), check,
                                   env=self.impl.env(), **kw)

    def restore(self, text, **kw):
        return self.firewall(tool='-restore', input=text, **kw)

    def save(self):
        return self.firewall('-c', tool='-save').stdout

    def serve(self, host, tcp=(), udp=()):
        self.servers.append(Echo(self.hosts[host], self.family, tcp, udp))

    def sniff(self):
        """Counts, from now on, what goes over both links."""
        self.sniffers = [Sniffer(self.hosts[k]) for k in 'cs']
        return self.sniffers

    # --- what a client does; each returns what came of it

    def udp(self, src, dst, port, size=20, count=1, wait=0.4, sport=0):
        s = self.hosts[src].socket(self.family, socket.SOCK_DGRAM)
        with s:
            if sport:
                s.bind((self.addr[src], sport))
            s.settimeout(wait)
            return attempt(lambda: self.udp_echo(s, dst, port, size, count))

    def udp_echo(self, s, dst, port, size, count):
        s.connect((self.addr.get(dst, dst), port))
        for i in range(count):
            data = bytes([i & 255]) * size
            s.send(data)
            if s.recv(65536) != data:
                return 'garbage'
        return 'echo'

    def tcp(self, src, dst, port, size=20, count=3, wait=0.4):
        s = self.hosts[src].socket(self.family, socket.SOCK_STREAM)
        with s:
            s.settimeout(wait)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return attempt(lambda: self.tcp_echo(s, dst, port, size, count))

    def tcp_echo(self, s, dst, port, size, count):
        s.connect((self.addr.get(dst, dst), port))
        for i in range(count):
            data = bytes([i & 255]) * size
            s.sendall(data)
            got = b''
            while len(got) < size:
                part = s.recv(size - len(got))
                if not part:
                    return 'closed'
                got += part
            if got != data:
                return 'garbage'
        return 'echo'

    def ping(self, src, dst, count=1):
        a = self.addr
        return ping(self.hosts[src], a[src], a[dst], count)

    def pmtu(self, src, dst, port, size=1400):
        """A datagram that must not be fragmented; the error that comes back for it."""
        with self.hosts[src].socket(self.family, socket.SOCK_DGRAM) as s:
            s.settimeout(0.4)
            if self.v6:
                s.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
            else:
                s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
            return attempt(lambda: self.udp_echo(s, dst, port, size, 1))

    def close(self):
        for s in self.servers + self.sniffers:
            s.close()
        for h in self.hosts.values():
            h.delete()


def ping(ns, src, dst, count=1, wait=0.4, size=32):
    """'echo' if all pings were answered, else what came instead."""
    v6 = ':' in dst
    family, proto = ((socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6
                     else (socket.AF_INET, socket.IPPROTO_ICMP))
    with ns.socket(family, socket.SOCK_RAW, proto) as s:
        s.settimeout(wait)
        s.bind((src, 0))
        return attempt(lambda: ping_echo(s, src, dst, v6, count, size))


def ping_echo(s, src, dst, v6, count, size):
    s.connect((dst, 0))
    for i in range(count):
        rest = struct.pack('!HH', 77, i)
        s.send(pkt.Builder(v6).icmp(src, dst, 128 if v6 else 8, 0, rest, b'p' * size))
        while True:
            got = s.recv(65536)
            got = got if v6 else got[20:]
            if got[0] == (129 if v6 else 0) and got[4:8] == rest:
                break
    return 'echo'


def attempt(fn):
    try:
        return fn()
    except socket.timeout:
        return 'timeout'
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))


def set_offload(ns, dev, what, on):
    """As `ethtool -K dev what on|off`."""
    value = array.array('B', struct.pack('II', ETHTOOL[what], on))
    req = struct.pack('16sP', dev.encode(), value.buffer_info()[0])
    with ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCETHTOOL, req)


def no_offload(ns, dev):
    for what in ETHTOOL:
        set_offload(ns, dev, what, 0)


class Echo:
    """Echoes on TCP and UDP ports of a host, in a thread, until closed."""

    def __init__(self, ns, family, tcp, udp):
        self.stop, self.wake = socket.socketpair()
        self.poll = select.epoll()
        self.socks = {}
        for port in tcp:
            s = ns.socket(family, socket.SOCK_STREAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(('', port))
            s.listen(64)
            self.add(s, self.accept)
        for port in udp:
            s = ns.socket(family, socket.SOCK_DGRAM)
            s.bind(('', port))
            self.add(s, self.datagram)
        self.poll.register(self.stop, select.EPOLLIN)
        self.thread = threading.Thread(target=self.loop, daemon=True)
        self.thread.start()

    def add(self, s, fn):
        s.setblocking(False)
        self.socks[s.fileno()] = (s, fn)
        self.poll.register(s, select.EPOLLIN)

    def loop(self):
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.stop.fileno():
                    return
                s, fn = self.socks[fd]
                try:
                    fn(s)
                except OSError:
                    if fn == self.stream:
                        self.drop(s)

    def accept(self, s):
        c = s.accept()[0]
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.add(c, self.stream)

    def stream(self, s):
        data = s.recv(65536)
        if data:
            s.sendall(data)
        else:
            self.drop(s)

    def datagram(self, s):
        s.sendto(*s.recvfrom(65536))

    def drop(self, s):
        del self.socks[s.fileno()]
        self.poll.unregister(s)
        s.close()

    def close(self):
        self.wake.send(b'x')
        self.thread.join()
        for s, _ in self.socks.values():
            s.close()
        self.stop.close()
        self.wake.close()
        self.poll.close()


class Sniffer:
    """All frames of a host's device: count(ours, proto) of one direction."""

    def __init__(self, ns, dev='eth0'):
        self.sock = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.sock.bind((dev, 3))
        self.sock.setblocking(False)
        self.seen = []

    def count(self, outgoing, proto):
        """(packets, bytes from the IP header on) that the host sent, or got."""
        while True:
            try:
                frame, where = self.sock.recvfrom(65536)
            except BlockingIOError:
                break
            at = 20 if frame[12:14] == b'\x86\xdd' else 23
            self.seen.append((where[2] == 4, frame[at], len(frame) - 14))
        sizes = [n for out, p, n in self.seen if out == outgoing and p == proto]
        return len(sizes), sum(sizes)

    def close(self):
        self.sock.close()

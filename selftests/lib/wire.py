# SPDX-License-Identifier: GPL-2.0
"""
Client, router and server with real sockets, a third host on the router's eth2
behind which nothing answers, and all that comes out of the router:

     client                  router                   server
     eth0  <--->  eth0 .71.0.1   eth1 .72.0.1  <--->  eth0
     10.71.0.2    fd71::1        fd72::1              10.72.0.2
     fd71::2              eth2 .73.0.1                fd72::2
                             |    fd73::1
                          other: 10.73.0.2 fd73::2
"""
import re
import select
import socket
import struct
import threading

import flow
import pkt
from flow import no_offload
from netns import Netns
from router import SO_RCVBUFFORCE, SOL_PACKET, PACKET_IGNORE_OUTGOING, mac_text

MAC = {'r': pkt.mac('02:00:00:00:a1:03'), 'x': pkt.mac('02:00:00:00:b1:03')}
OTHER = {False: ('10.73.0.1', '10.73.0.2', '24'), True: ('fd73::1', 'fd73::2', '64')}
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
TCP_FLAGS = 'FSRPAUEC'


class Wire(flow.Triangle):
    def build(self):
        self.addr = dict(self.addr, r2=OTHER[self.v6][0], x=OTHER[self.v6][1])
        self.hosts['x'] = Netns('fx')
        super().build()
        bits, dad = OTHER[self.v6][2], ' nodad' if self.v6 else ''
        self.hosts['r'].ip(
            f'link add name eth2 address {mac_text(MAC["r"])} type veth peer name eth0 address '
            f'{mac_text(MAC["x"])} netns {self.hosts["x"].name}', 'link set eth2 arp off up',
            f'addr add {self.addr["r2"]}/{bits} dev eth2{dad}',
            f'neigh replace {self.addr["x"]} lladdr {mac_text(MAC["x"])} dev eth2 nud permanent')
        self.hosts['x'].sysctl(net__ipv6__conf__all__disable_ipv6=1)
        self.hosts['x'].ip('link set eth0 arp off up')
        no_offload(self.hosts['r'], 'eth2')
        self.taps = {k: self.tap(self.hosts[k]) for k in 'csx'}

    def tap(self, ns):
        s = ns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        s.bind(('eth0', 3))
        s.setblocking(False)
        return s

    def arrived(self):
        """
        What has come out of the router: sorted texts.  TCP's each once, without
        bare acknowledgements: it repeats itself by the clock.
        """
        out = []
        for host, tap in self.taps.items():
            seen = []
            while True:
                try:
                    seen.append(describe(tap.recv(65536)))
                except BlockingIOError:
                    break
            seen = [t for t in seen if t and ' A "' not in t]
            once = {t for t in seen if ' tcp ' in t}
            out += [f'{host} <- {t}' for t in [t for t in seen if ' tcp ' not in t] + list(once)]
        return sorted(out)

    def entries(self):
        """The router's conntrack entries, without what the clock changes."""
        with self.hosts['r'], open('/proc/thread-self/net/nf_conntrack') as f:
            out = []
            for line in f:
                words = line.split()
                keep = [w for w in words[5:] if '=' in w or w[0] == '[']
                keep = [w for w in keep if not re.match(r'(use|packets|bytes|secctx)=', w)]
                if words[2] == 'tcp':
                    keep = [w for w in keep if w != '[ASSURED]']
                out.append(' '.join([words[2]] + keep))
        return sorted(out)

    # --- what hosts do

    def connected(self, kind, src, dst, port, sport, to=None):
        s = self.hosts[src].socket(self.family, kind)
        s.settimeout(2)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.SOCK_STREAM:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            s.bind(('', sport))
            s.settimeout(0.8 if kind == socket.SOCK_DGRAM else 2)
            s.connect((self.addr.get(dst, dst), port))
        except OSError:
            s.close()
            raise
        return s

    def echo(self, kind, src, dst, port, sport, text=b'hello', count=2, tos=0):
        """'echo', or what came instead of the answer; the port of who answered."""
        def do():
            with self.connected(kind, src, dst, port, sport) as s:
                if tos:
                    s.setsockopt(*((socket.IPPROTO_IPV6, 67) if self.v6
                                   else (socket.IPPROTO_IP, socket.IP_TOS)), tos)
                for i in range(count):
                    s.send(text + b'%d' % i)
                    if s.recv(2000) != text + b'%d' % i:
                        return 'garbage'
                return 'echo'
        return flow.attempt(do)

    def udp1(self, src, dst, port, sport, **kw):
        return self.echo(socket.SOCK_DGRAM, src, dst, port, sport, **kw)

    def tcp1(self, src, dst, port, sport, **kw):
        return self.echo(socket.SOCK_STREAM, src, dst, port, sport, **kw)

    def hold(self, dst, port, sport, count):
        """So many connections at a time: what came of each."""
        held, out = [], []

        def connect(i):
            held.append(self.connected(socket.SOCK_STREAM, 'c', dst, port, sport + i))
            return 'open'
        for i in range(count):
            out.append(flow.attempt(lambda: connect(i)))
        for s in held:
            s.close()
        return out

    def transparent(self, host, port):
        """An echo server that takes connections meant for others."""
        s = self.hosts[host].socket(self.family, socket.SOCK_STREAM)
        s.setsockopt(*((socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if self.v6
                       else (socket.IPPROTO_IP, IP_TRANSPARENT)), 1)
        s.bind(('', port))
        s.listen(8)
        e = flow.Echo(self.hosts[host], self.family, (), ())
        e.add(s, e.accept)
        self.servers.append(e)

    def close(self):
        for t in getattr(self, 'taps', {}).values():
            t.close()
        super().close()


# --- frames as text

def describe(frame):
    """One line; '' for what is not IP, and for IPv6's own housekeeping."""
    kind, body = frame[12:14], frame[14:]
    if kind == b'\x08\x00' and len(body) >= 20:
        ihl = (body[0] & 15) * 4
        size = struct.unpack_from('!H', body, 2)[0]
        off = struct.unpack_from('!H', body, 6)[0] & 0x3fff
        return layer4(body[9], socket.inet_ntoa(body[12:16]), socket.inet_ntoa(body[16:20]),
                      f'tos {body[1]:#x} ttl {body[8]}' + (f' frag {off:#x}' if off else ''),
                      body[ihl:size])
    if kind == b'\x86\xdd' and len(body) >= 40:
        tos = struct.unpack_from('!H', body)[0] >> 4 & 255
        size = struct.unpack_from('!H', body, 4)[0]
        src, dst = (socket.inet_ntop(socket.AF_INET6, body[i:i + 16]) for i in (8, 24))
        if body[6] == pkt.ICMP6 and body[40] in (*range(130, 138), 143) or body[6] == 0:
            return ''
        return layer4(body[6], src, dst, f'tos {tos:#x} ttl {body[7]}', body[40:40 + size])
    return ''


def layer4(proto, src, dst, head, seg):
    if proto == pkt.TCP and len(seg) >= 20:
        sport, dport = struct.unpack_from('!HH', seg)
        size = (seg[12] >> 4) * 4
        flags = ''.join(c for i, c in enumerate(TCP_FLAGS) if seg[13] >> i & 1)
        return (f'{src}.{sport} > {dst}.{dport} {head} tcp {options(seg[20:size])} {flags} '
                f'"{printable(seg[size:])}"')
    if proto == pkt.UDP and len(seg) >= 8:
        sport, dport = struct.unpack_from('!HH', seg)
        return f'{src}.{sport} > {dst}.{dport} {head} udp "{printable(seg[8:])}"'
    if proto in (pkt.ICMP, pkt.ICMP6) and len(seg) >= 8:
        error = seg[0] in (3, 4, 5, 11, 12) if proto == pkt.ICMP else seg[0] < 128
        inner = inside(seg[8:]) if error else printable(seg[8:])
        return f'{src} > {dst} {head} icmp {seg[0]}/{seg[1]} {seg[4:8].hex()} {inner}'
    return f'{src} > {dst} {head} proto {proto} {seg[:64].hex()}'


def inside(packet):
    """The packet in an ICMP error: addresses and ports."""
    v6 = packet[0] >> 4 == 6
    at = (8, 24, 40) if v6 else (12, 16, (packet[0] & 15) * 4)
    size, family = (16, socket.AF_INET6) if v6 else (4, socket.AF_INET)
    src, dst = (socket.inet_ntop(family, packet[i:i + size]) for i in at[:2])
    return f'about {src} > {dst} {packet[at[2]:at[2] + 4].hex()}'


def options(data):
    """TCP's options by number; with the value of MSS."""
    out = []
    while data and data[0]:
        if data[0] == 1 or len(data) < 2 or data[1] < 2:
            out.append('1')
            data = data[1:]
            continue
        out.append(f'mss{struct.unpack("!H", data[2:4])[0]}' if data[0] == 2 else str(data[0]))
        data = data[data[1]:]
    return ','.join(out) or '-'


def printable(data):
    return re.sub(r'[^ -~]', '.', data.decode('latin-1'))


# --- FTP, as much of it as connection tracking looks at

class Ftp(threading.Thread):
    """A server of one control connection at a time; its data is "data"."""

    def __init__(self, ns, family, addr):
        super().__init__(daemon=True)
        self.ns, self.family, self.addr = ns, family, addr
        self.stop, self.wake = socket.socketpair()
        self.listener = self.listen(21)
        self.start()

    def listen(self, port):
        s = self.ns.socket(self.family, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(('', port))
        s.listen(4)
        s.settimeout(2)
        return s

    def run(self):
        while self.stop not in select.select([self.stop, self.listener], [], [])[0]:
            try:
                control = self.listener.accept()[0]
                with control:
                    control.settimeout(2)
                    self.serve(control)
            except OSError:
                pass

    def serve(self, control):
        control.sendall(b'220 ready\r\n')
        where = None
        for line in lines(control):
            word, _, rest = line.partition(' ')
            if word in ('PORT', 'EPRT'):
                where = named(rest)
                control.sendall(b'200 ok\r\n')
            elif word in ('PASV', 'EPSV'):
                where = self.listen(2121)
                control.sendall(passive(word, self.addr, 2121))
            elif word == 'RETR':
                self.send(where)
                control.sendall(b'226 done\r\n')
            else:
                return

    def send(self, where):
        if isinstance(where, tuple):
            s = self.ns.socket(self.family, socket.SOCK_STREAM)
            s.settimeout(2)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(('', 20))
            s.connect(where)
        else:
            s = where.accept()[0]
            where.close()
        with s:
            s.sendall(b'data')

    def close(self):
        self.wake.send(b'x')
        self.join()
        for s in (self.listener, self.stop, self.wake):
            s.close()


def lines(control):
    data = b''
    while True:
        part = control.recv(500)
        if not part:
            return
        data += part
        while b'\r\n' in data:
            line, data = data.split(b'\r\n', 1)
            yield line.decode()


def named(text):
    """The address of PORT or EPRT."""
    if text[0] == '|':
        return text.split('|')[2], int(text.split('|')[3])
    n = text.split(',')
    return '.'.join(n[:4]), int(n[4]) * 256 + int(n[5])


def passive(word, addr, port):
    if word == 'EPSV':
        return b'229 Extended (|||%d|)\r\n' % port
    return b'227 Passive (%s,%d,%d)\r\n' % (addr.replace('.', ',').encode(), port >> 8, port & 255)


def ftp_get(wire, active, sport):
    """What the client gets from the server, by a data connection of either kind."""
    def do():
        with wire.connected(socket.SOCK_STREAM, 'c', 's', 21, sport) as control:
            answers = lines(control)
            next(answers)
            if active:
                return ftp_active(wire, control, answers, sport + 1)
            control.sendall(b'EPSV\r\n' if wire.v6 else b'PASV\r\n')
            text = next(answers)
            host, port = (wire.addr['s'], int(text.split('|')[3])) if wire.v6 else \
                named(re.search(r'\((.*)\)', text).group(1))
            control.sendall(b'RETR x\r\n')
            with wire.connected(socket.SOCK_STREAM, 'c', host, port, sport + 1) as data:
                return got(data, answers)
    return flow.attempt(do)


def ftp_active(wire, control, answers, port):
    with wire.hosts['c'].socket(wire.family, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.settimeout(2)
        s.bind(('', port))
        s.listen(1)
        here = wire.addr['c']
        control.sendall(f'EPRT |2|{here}|{port}|\r\n'.encode() if wire.v6 else
                        f'PORT {here.replace(".", ",")},{port >> 8},{port & 255}\r\n'.encode())
        next(answers)
        control.sendall(b'RETR x\r\n')
        with s.accept()[0] as data:
            return got(data, answers)


def got(data, answers):
    """The data, and all else is read: a connection closed before is reset."""
    text = data.recv(100).decode()
    while data.recv(100):
        pass
    next(answers)
    return text

# SPDX-License-Identifier: GPL-2.0
"""
Random frames for a router under test: drawn from a ruleset's constants (Consts),
plus junk.  Frames(consts, random.Random(seed)).make(n) gives (port, frame) pairs.
Tame ones have no malformed headers, which nf_tables sees with other eyes.
"""
import struct
from ipaddress import ip_address

import pkt
from pkt import TCP, UDP, SCTP, AH, SYN, ACK, RST, FIN, PSH
from router import MAC_R, MAC_P, ROUTER, PEER

MCAST_MAC = pkt.mac('01:00:5e:00:00:01')
MCAST6_MAC = pkt.mac('33:33:00:00:00:01')
OTHER_MAC = pkt.mac('02:de:ad:be:ef:01')
TCP_OPTS = [b'', b'', pkt.mss(1460), pkt.mss(536), pkt.mss(1460) + pkt.NOP * 2 + pkt.SACKOK,
            pkt.WSCALE + pkt.NOP, pkt.NOP * 2 + pkt.TSTAMP, pkt.MD5 + pkt.NOP * 2, pkt.EOL * 4,
            b'\xfe\x04\xab\xcd', b'\x02\x00\x05\xb4', b'\x02\x01\x05\xb4', b'\x02\x03\x05\x01',
            b'\x02\x28\x05\xb4', b'\x08\x0a', b'\x05\x02\x01\x02', b'\x01\x01\x01\x02']
IP_OPTS = [b'\x94\x04\0\0', b'\x07\x07\x04\0\0\0\0', b'\x44\x08\x09\0' + b'\0' * 4, b'\1\1\1\1',
           b'\x83\x07\x04\x0a\x47\0\2', b'\x07\x01\x04\0', b'\x82\x0b' + b'\0' * 9]
SPECIAL4 = ['255.255.255.255', '224.0.0.1', '239.1.2.3', '10.71.0.255', '10.72.0.255',
            '0.0.0.0', '127.0.0.1', '240.0.0.1', '169.254.1.1', '10.71.0.0']
SPECIAL6 = ['ff02::1', 'ff02::2', 'ff05::1:3', 'ff0e::1', '::1', '::', 'fe80::1',
            '::ffff:10.71.0.1', 'fd71::', 'ff01::1']
ICMP4_TYPES = [(8, 0), (8, 0), (0, 0), (13, 0), (17, 0), (8, 1), (30, 0), (5, 1), (9, 0), (10, 0)]
ICMP6_TYPES = [(128, 0), (128, 0), (129, 0), (133, 0), (134, 0), (137, 0), (139, 0), (200, 5)]
ICMP4_ERRORS = [(3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0), (4, 0)]
ICMP6_ERRORS = [(1, 0), (1, 4), (2, 0), (3, 0), (3, 1), (4, 1)]
EXTENSIONS = (0, 43, 44, 51, 59, 60, 135)	# of IPv6
ODD_PROTOS = [47, 50, 51, 132, 2, 4, 41, 33, 136, 89, 115, 103, 255, 0]


class Frames:
    def __init__(self, consts, rnd, tame=False):
        self.c, self.r, self.tame = consts, rnd, tame
        self.v6 = consts.v6
        self.b = pkt.Builder(self.v6)
        self.width = 16 if self.v6 else 4
        self.special = SPECIAL6 if self.v6 else SPECIAL4
        self.history = []	# (port, source, destination, protocol, ports)
        self.own = {pkt.raw(a) for a in ROUTER[self.v6] + consts.hosts()}

    # --- values

    def pick(self, own, other, p=0.6):
        """One of the ruleset's values, or one off, or one of @other."""
        if own and self.r.random() < p:
            return max(0, self.r.choice(own) + self.r.choice((0, 0, 0, 0, -1, 1)))
        return self.r.choice(other)

    def addr(self, nets, local, special):
        r, full = self.r, (1 << 8 * self.width) - 1
        x = r.random()
        if nets and x < 0.6:
            value, mask = r.choice(nets)
            free = full & ~mask
            a = value | (r.getrandbits(8 * self.width) & free if r.random() < 0.7
                         else r.choice((0, free, free & 1)))
            if r.random() < 0.08:
                a = (a + r.choice((-1, 1))) & full
            return a.to_bytes(self.width, 'big')
        if x < 0.85:
            return pkt.raw(r.choice(local))
        if x < 0.85 + special:
            return pkt.raw(r.choice(self.special))
        if self.v6:
            return b'\x20\1' + r.randbytes(14)
        return bytes([r.choice((8, 11, 100, 172, 192, 203))]) + r.randbytes(3)

    def ports(self):
        def one():
            return min(65535, self.pick(self.c.ports, (22, 53, 80, 443, 1024, 33333, 65535, 0,
                                                       self.r.randrange(65536)), 0.75))
        return one(), one()

    def proto(self):
        x = self.r.random()
        if self.c.protos and x < 0.25:
            proto = self.r.choice(self.c.protos)
        elif x < 0.9:
            proto = self.r.choice((TCP, TCP, TCP, UDP, UDP, UDP, self.b.icmp_proto))
        else:
            proto = self.r.choice(ODD_PROTOS + [self.r.randrange(256)])
        return UDP if self.tame and self.v6 and proto in EXTENSIONS else proto

    def payload(self, proto=0):
        r = self.r
        if self.c.lengths and r.random() < 0.5:
            head = 20 + (40 if self.v6 else 20) if proto == TCP else 8 + (40 if self.v6 else 20)
            return b'L' * min(1400, max(0, self.pick(self.c.lengths, (64,), 1) - head))
        return r.randbytes(r.choice((0, 0, 1, 8, 26, 64, 300, 1200)))

    def ipargs(self):
        kw = dict(tos=self.pick(self.c.tos, (0, 0, 0, 0x10, 0xb8, 1, 0xff)) & 0xff,
                  ttl=self.pick(self.c.ttls, (64, 64, 64, 255, 2, 1, 128)) & 0xff)
        if not self.v6:
            kw['ident'] = self.r.getrandbits(16)
        elif self.r.random() < 0.1:
            kw['flow'] = self.r.getrandbits(20)
        return kw

    # --- layer 4

    def segment(self, s, d, proto, ports, bad=False):
        if proto == TCP:
            return self.tcp(s, d, ports, bad)
        if proto == UDP:
            kw = dict(csum=self.r.random() > 0.1) if not self.v6 else {}
            if self.r.random() < 0.03:
                kw['length'] = self.r.choice((0, 7, 8, 2000))
            return self.b.udp(s, d, *ports, self.payload(), bad=bad, **kw)
        if proto == self.b.icmp_proto:
            return self.icmp(s, d, bad)
        if proto == SCTP:
            kind = self.r.choice((0, 1, 2, 3, 6, 7, 9, 14, 130))
            chunks = [(kind, self.r.randrange(8), b'\0' * self.r.choice((0, 4, 12, 16)))]
            if self.r.random() < 0.3:
                chunks.append((self.r.choice((0, 3, 10)), self.r.randrange(8), b'abcdef'))
            return pkt.sctp(*ports, chunks, bad=bad)
        if proto == AH:
            return pkt.ah(UDP) + self.b.udp(s, d, *ports, b'inside')
        return self.r.randbytes(8) + self.payload()

    def tcp(self, s, d, ports, bad):
        r = self.r
        flags = self.pick(self.c.flags, (SYN, SYN, SYN, SYN | ACK, ACK, ACK | PSH, ACK | FIN, RST,
                                         RST | ACK, 0, 0x3f, 0x29, FIN, 0xc2)) & 0xff
        opts = r.choice(TCP_OPTS[:8] if self.tame else TCP_OPTS)
        if self.c.mss and r.random() < 0.5:
            opts = pkt.mss(self.pick(self.c.mss, (0, 536, 65535)) & 0xffff)
        if self.c.opts and r.random() < 0.4:
            kind = r.choice(self.c.opts) & 255
            opts = pkt.NOP * r.randrange(3) + bytes([kind, 4, 0, 0])
        kw = {}
        if r.random() < 0.04 and not self.tame:
            kw['doff'] = r.choice((0, 4, 5, 6, 15))
        return self.b.tcp(s, d, *ports, flags, r.getrandbits(32),
                          r.getrandbits(32) if flags & ACK else 0, opts=opts, bad=bad,
                          res=r.choice((0, 0, 0, 0, 1, 8, 15)),
                          payload=b'' if flags & SYN else self.payload(TCP), **kw)

    def icmp(self, s, d, bad=False):
        r = self.r
        errors = ICMP6_ERRORS if self.v6 else ICMP4_ERRORS
        if self.history and r.random() < 0.25:
            return self.icmp_error(s, d, r.choice(errors), bad)
        own = [t for t in self.c.icmp if not self.noisy(t[0])]
        kind, code = (r.choice(own) if own and r.random() < 0.6
                      else r.choice(ICMP6_TYPES if self.v6 else ICMP4_TYPES))
        if r.random() < 0.1:
            code = r.choice((code + 1, 255)) & 255
        return self.b.icmp(s, d, kind, code, struct.pack('!HH', r.getrandbits(16), 1),
                           self.payload(), bad)

    def noisy(self, kind):
        """Types that make the router send by timers: never twice the same."""
        return self.v6 and kind in (130, 135)

    def icmp_error(self, s, d, error, bad):
        """About an earlier packet, as if @s could not send it on."""
        _, src, dst, proto, ports = self.r.choice(self.history)
        inner = self.b.ip(src, dst, proto, self.segment_plain(src, dst, proto, ports))
        cut = self.r.choice((28, 28, 40, 48, 68, len(inner)))
        rest = struct.pack('!HH', 0, 1300) if error[0] in (2, 3) else b'\0' * 4
        return self.b.icmp(s, d, *error, rest, inner[:cut], bad)

    def segment_plain(self, s, d, proto, ports):
        if proto == TCP:
            return self.b.tcp(s, d, *ports)
        if proto == UDP:
            return self.b.udp(s, d, *ports, b'q' * 16)
        if proto == self.b.icmp_proto:
            return self.b.icmp(s, d, 128 if self.v6 else 8)
        return b'q' * 24

    # --- frames

    def make(self, n, run=24):
        """About @n frames, in runs on one port."""
        out = []
        while len(out) < n:
            port = self.r.randrange(2)
            for _ in range(run):
                out += self.one(port)
        return out + (self.neighbours() if self.v6 else [])

    def neighbours(self):
        """Solicitations that the router answers, or must not."""
        out = []
        for port in (0, 1):
            s, d = PEER[True][port], ROUTER[True][port]
            for ttl in (255, 64):
                seg = self.b.icmp(s, d, 135, 0, b'\0' * 4,
                                  pkt.raw(d) + b'\1\1' + MAC_P[port])
                out.append((port, pkt.eth(MAC_R[port], MAC_P[port], 0x86dd,
                                          self.b.ip6(s, d, pkt.ICMP6, seg, ttl=ttl))))
        return out

    def one(self, port):
        r, v6 = self.r, self.v6
        if self.history and r.random() < 0.04:
            return self.answer_by_error()
        local_dst = ROUTER[v6] + [PEER[v6][1 - port]]
        if self.history and r.random() < 0.2:		# of a known flow, either way
            p, s, d, proto, ports = r.choice(self.history)
            if r.random() < 0.6 and d not in self.own:
                p, s, d, ports = 1 - p, d, s, ports[::-1]
            port = p if r.random() < 0.9 else port
        else:
            s = self.addr(self.c.src, [PEER[v6][port]], 0.02)
            d = self.addr(self.c.dst, local_dst, 0.05)
            proto, ports = self.proto(), self.ports()
        self.history = self.history[-40:] + [(port, s, d, proto, ports)]
        return [(port, f) for f in self.frames(port, s, d, proto, ports)]

    def answer_by_error(self):
        """Where an earlier packet went, someone says that it cannot be delivered."""
        p, s, d, proto, ports = self.r.choice(self.history)
        who = pkt.raw(PEER[self.v6][1 - p])
        if d not in self.own and self.r.random() < 0.5:
            who = d
        self.history.append((p, s, d, proto, ports))
        error = self.r.choice(ICMP6_ERRORS if self.v6 else ICMP4_ERRORS)
        inner = self.b.ip(s, d, proto, self.segment_plain(s, d, proto, ports))
        rest = struct.pack('!HH', 0, 1300) if error[0] in (2, 3) else b'\0' * 4
        seg = self.b.icmp(who, s, *error, rest, inner)
        packet = self.b.ip(who, s, self.b.icmp_proto, seg, **self.ipargs())
        return [(1 - p, self.ether(1 - p, who, s, packet))]

    def frames(self, port, s, d, proto, ports):
        r, b = self.r, self.b
        kw = self.ipargs()
        seg = self.segment(s, d, proto, ports, bad=r.random() < 0.02)
        x = r.random()
        if self.tame and (x >= 0.05 or len(seg) < 200):
            x = 1
        if x < 0.05 and len(seg) > 8:
            cuts, order = self.cuts(len(seg))
            kw.setdefault('ident', r.getrandbits(32))
            packets = b.frags(s, d, proto, seg, cuts, order=order, **kw)
        elif x < 0.13:
            packets = [self.odd6(s, d, proto, seg, kw) if self.v6
                       else self.odd4(s, d, proto, seg, kw)]
        elif x < 0.15:
            whole = b.ip(s, d, proto, seg, **kw)
            packets = [whole[:r.randrange(1, len(whole))]]
        else:
            packets = [b.ip(s, d, proto, seg, **kw)]
        return [self.ether(port, s, d, p) for p in packets]

    def cuts(self, size):
        """Byte ranges of fragments, and their order."""
        r = self.r
        mid = max(8, size // 2 & ~7)
        if mid >= size:
            return [(0, size)], None
        x = r.random() * (0.6 if self.tame else 1)
        if x < 0.4:
            return [(0, mid), (mid, size)], None
        if x < 0.6:
            return [(0, mid), (mid, size)], [1, 0]
        if x < 0.7:
            return [(0, 8), (8, size)], None		# a tiny first one
        if x < 0.8:
            return [(mid, size)], None			# never complete
        if x < 0.9:
            return [(0, mid), (max(0, mid - 8), size)], None
        return [(0, mid), (0, mid), (mid, size)], None

    def odd4(self, s, d, proto, seg, kw):
        r, ip = self.r, self.b.ip4
        x = r.randrange(7)
        if x == 0:
            return ip(s, d, proto, seg, bad=True, **kw)
        if x <= 2:
            return ip(s, d, proto, seg, opts=r.choice(IP_OPTS), **kw)
        if x == 3:
            return ip(s, d, proto, seg, length=r.choice((0, 19, 20, 20 + len(seg) // 2,
                                                         28 + len(seg))), **kw)
        if x == 4:
            return ip(s, d, proto, seg, ihl=r.choice((0, 4, 6, 15)), **kw)
        if x == 5:
            return ip(s, d, proto, seg, version=r.choice((0, 5, 6)), **kw)
        return ip(s, d, proto, seg, off=r.choice((0x4000, 0x8000, 0x6000, 0x1fff, 1)), **kw)

    def odd6(self, s, d, proto, seg, kw):
        r, ip = self.r, self.b.ip6
        chains = [
            lambda: (0, pkt.opts6(proto) + seg),
            lambda: (60, pkt.opts6(proto) + seg),
            lambda: (0, pkt.opts6(60) + pkt.opts6(proto) + seg),
            lambda: (43, pkt.routing6(proto) + seg),
            lambda: (43, pkt.routing6(proto, 2, 1, [PEER[True][1]]) + seg),
            lambda: (51, pkt.ah(proto) + seg),
            lambda: (0, pkt.opts6(51) + pkt.ah(60) + pkt.opts6(proto) + seg),
            lambda: (59, seg),
            lambda: (60, pkt.opts6(59) + seg),
            lambda: (60, b'\x06\x20' + seg[:6]),		# longer than the packet
            lambda: (60, bytes([proto])),
            lambda: (44, pkt.frag6(proto) + seg),		# atomic
            lambda: (44, pkt.frag6(proto, 5) + seg),
            lambda: (0, pkt.opts6(44) + pkt.frag6(60, 0, True) + pkt.opts6(proto) + seg),
            lambda: (44, pkt.frag6(proto, 0, True)[:5]),
            lambda: (60, pkt.opts6(0) + pkt.opts6(proto) + seg),	# hop-by-hop not first
            lambda: (135, b'\x3b\0\0\0\0\0\0\0'),
            lambda: (0, pkt.opts6(proto, b'\x05\2\0\0\1\0') + seg),	# router alert
            lambda: (0, pkt.opts6(proto, b'\xc3\4\0\0\0\0') + seg),	# unknown: error
        ]
        x = r.random()
        if x < 0.15:
            return ip(s, d, proto, seg, length=r.choice((0, 1, len(seg) // 2, len(seg) + 8)), **kw)
        if x < 0.2:
            return ip(s, d, proto, seg, version=r.choice((4, 5)), **kw)
        nh, body = r.choice(chains)()
        return ip(s, d, nh, body, **kw)

    def ether(self, port, s, d, packet):
        r = self.r
        dst, src, tags = MAC_R[port], MAC_P[port], ()
        x = r.random()
        special = pkt.raw(d) in map(pkt.raw, self.special[:5])
        if special and x < 0.8:
            dst = MCAST6_MAC if self.v6 else (pkt.BROADCAST if d[0] in (255, 10) else MCAST_MAC)
        elif x < 0.03:
            dst = r.choice((OTHER_MAC, pkt.BROADCAST, MCAST_MAC, MCAST6_MAC))
        elif x < 0.05:
            tags = r.choice((((0x8100, 0),), ((0x8100, 5),), ((0x88a8, 0),), ((0x8100, 0xe000),),
                             ((0x8100, 0), (0x8100, 0)), ((0x88a8, 3), (0x8100, 4))))
        if self.c.macs and r.random() < 0.4:
            src = r.choice(self.c.macs)
        frame = pkt.eth(dst, src, self.b.ethertype, packet, tags)
        if len(frame) < 60 and r.random() < 0.5:
            frame = pkt.pad(frame, 60, r.choice((b'\0', b'\xff')))
        if r.random() < 0.01:
            frame = pkt.eth(dst, src, r.choice((0x0806, 0x0800, 0x86dd, 0x8863, 0x0004)),
                            packet[:r.randrange(20, 60)])
        return frame

    # --- the router's own

    def local_ops(self, n):
        out = []
        for i in range(n):
            s = self.addr(self.c.src, ROUTER[self.v6], 0)
            d = self.addr(self.c.dst, ROUTER[self.v6] + PEER[self.v6], 0.02)
            op = dict(to=str(ip_address(d)), uid=self.pick(self.c.uids, (0, 0, 1000, 33)),
                      gid=self.pick(self.c.gids, (0, 0, 100)),
                      mark=self.pick(self.c.marks, (0, 0, 7)))
            if self.c.gids and self.r.random() < 0.3:
                op['groups'] = (self.r.choice(self.c.gids),)
            if self.r.random() < 0.3:
                op.update(packet=self.payload(), sport=20000 + i)
            else:
                proto = self.proto()
                seg = self.segment(s, d, proto, self.ports())
                op['packet'] = self.b.ip(s, d, proto, seg, **self.ipargs())
            out.append(op)
        return out

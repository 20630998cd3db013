# SPDX-License-Identifier: GPL-2.0
"""Packets from parts.  Every field can be set wrong on purpose."""
import struct
from ipaddress import ip_address

ICMP, IGMP, TCP, UDP, GRE, ESP, AH, ICMP6, SCTP = 1, 2, 6, 17, 47, 50, 51, 58, 132
HOPOPT, ROUTING, FRAGMENT, NONEXT, DSTOPT, MOBILITY = 0, 43, 44, 59, 60, 135
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << i for i in range(8))
BROADCAST = b'\xff' * 6


def mac(text):
    return bytes.fromhex(text.replace(':', ''))


def raw(addr):
    """The bytes of an address, given as text or as bytes."""
    return addr if isinstance(addr, bytes) else ip_address(addr).packed


def checksum(data):
    if len(data) % 2:
        data += b'\0'
    s = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def eth(dst, src, proto, payload, tags=()):
    """@tags: (tpid, tci) pairs, the outer one first."""
    for tpid, tci in reversed(tags):
        payload = struct.pack('!HH', tci, proto) + payload
        proto = tpid
    return dst + src + struct.pack('!H', proto) + payload


def hosts(packet):
    """The two addresses of an IP packet, in no order."""
    at, n = (8, 16) if packet[:1] >= b'\x60' else (12, 4)
    return frozenset((packet[at:at + n], packet[at + n:at + 2 * n]))


def frame_hosts(frame):
    """hosts() of what a frame carries, behind its tags."""
    at = 12
    while frame[at:at + 2] in (b'\x81\0', b'\x88\xa8'):
        at += 4
    return hosts(frame[at + 2:])


def pad(frame, size=60, fill=b'\0'):
    return frame + fill * max(0, size - len(frame))


class Builder:
    """L4 and IP of one family; addresses are needed for the checksums."""

    def __init__(self, v6):
        self.v6 = v6
        self.ethertype = 0x86dd if v6 else 0x0800
        self.icmp_proto = ICMP6 if v6 else ICMP

    def pseudo(self, src, dst, proto, length):
        if self.v6:
            return raw(src) + raw(dst) + struct.pack('!IxxxB', length, proto)
        return raw(src) + raw(dst) + struct.pack('!xBH', proto, length)

    def l4sum(self, src, dst, proto, seg, at, bad=False):
        """@seg with its checksum, over the pseudo header, put in at @at."""
        c = checksum(self.pseudo(src, dst, proto, len(seg)) + seg)
        if proto == UDP and c == 0:
            c = 0xffff
        if bad:
            c ^= 0x1234
        return seg[:at] + struct.pack('!H', c) + seg[at + 2:]

    def tcp(self, src, dst, sport, dport, flags=SYN, seq=1, ack=0, window=8192,
            opts=b'', payload=b'', urgent=0, doff=None, res=0, bad=False):
        if doff is None:
            doff = 5 + (len(opts) + 3) // 4
            opts = opts.ljust((doff - 5) * 4, b'\0')
        off = doff << 4 | res
        seg = struct.pack('!HHIIBBHHH', sport, dport, seq, ack, off, flags,
                          window, 0, urgent) + opts + payload
        return self.l4sum(src, dst, TCP, seg, 16, bad)

    def udp(self, src, dst, sport, dport, payload=b'', length=None, bad=False, csum=True):
        if length is None:
            length = 8 + len(payload)
        seg = struct.pack('!HHHH', sport, dport, length, 0) + payload
        return self.l4sum(src, dst, UDP, seg, 6, bad) if csum else seg

    def icmp(self, src, dst, kind, code=0, rest=b'\0\1\0\1', payload=b'', bad=False):
        """ICMP, or ICMPv6 in an IPv6 builder."""
        seg = struct.pack('!BBH', kind, code, 0) + rest + payload
        if self.v6:
            return self.l4sum(src, dst, ICMP6, seg, 2, bad)
        c = checksum(seg) ^ (0x1234 if bad else 0)
        return seg[:2] + struct.pack('!H', c) + seg[4:]

    def ip(self, src, dst, proto, payload=b'', **kw):
        return (self.ip6 if self.v6 else self.ip4)(src, dst, proto, payload, **kw)

    def ip4(self, src, dst, proto, payload=b'', tos=0, ttl=64, ident=1, off=0,
            opts=b'', ihl=None, length=None, version=4, bad=False):
        """@off: flags and fragment offset as on the wire (0x2000 is MF)."""
        opts = opts.ljust((len(opts) + 3) & ~3, b'\0')
        if ihl is None:
            ihl = 5 + len(opts) // 4
        if length is None:
            length = 20 + len(opts) + len(payload)
        h = struct.pack('!BBHHHBBH', version << 4 | ihl, tos, length, ident, off,
                        ttl, proto, 0) + raw(src) + raw(dst) + opts
        c = checksum(h[:max(20, ihl * 4)]) ^ (0x1234 if bad else 0)
        return h[:10] + struct.pack('!H', c) + h[12:] + payload

    def ip6(self, src, dst, proto, payload=b'', tos=0, ttl=64, flow=0,
            length=None, version=6):
        if length is None:
            length = len(payload)
        return struct.pack('!IHBB', version << 28 | tos << 20 | flow, length,
                           proto, ttl) + raw(src) + raw(dst) + payload

    def frags(self, src, dst, proto, payload, cuts, ident=7, order=None, **kw):
        """
        The datagram as fragments.  @cuts: (from, to) byte ranges of @payload, in
        units of 8 but at the end; overlaps and holes as given.  @order: the indexes
        in which to send them.
        """
        out = []
        for start, end in cuts:
            more = end < len(payload)
            part = payload[start:end]
            if self.v6:
                hdr = struct.pack('!BBHI', proto, 0, start | more, ident)
                out.append(self.ip6(src, dst, FRAGMENT, hdr + part, **kw))
            else:
                out.append(self.ip4(src, dst, proto, part, ident=ident,
                                    off=start >> 3 | (0x2000 if more else 0), **kw))
        return [out[i] for i in order] if order else out


def sctp(sport, dport, chunks=((1, 0, b'\0' * 16),), tag=0, bad=False):
    """@chunks: (type, flags, value)."""
    body = b''
    for kind, flags, value in chunks:
        size = 4 + len(value)
        body += struct.pack('!BBH', kind, flags, size) + value + b'\0' * (-size % 4)
    head = struct.pack('!HHI', sport, dport, tag)
    c = crc32c(head + b'\0' * 4 + body) ^ (0x1234 if bad else 0)
    return head + struct.pack('<I', c) + body


def _crc_table():
    out = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ 0x82f63b78 if n & 1 else n >> 1
        out.append(n)
    return out


_CRC = _crc_table()


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c = c >> 8 ^ _CRC[(c ^ b) & 255]
    return c ^ 0xffffffff


# TCP options
def mss(value):
    return struct.pack('!BBH', 2, 4, value)


NOP, EOL, SACKOK = b'\1', b'\0', b'\4\2'
WSCALE, TSTAMP = b'\3\3\7', b'\x08\x0a' + b'\0\0\0\1' + b'\0' * 4
MD5 = b'\x13\x12' + b'\x55' * 16


# IPv6 extension headers, each in front of what has the type @nh
def opts6(nh, value=b'\1\4\0\0\0\0'):
    """Hop-by-hop or destination options; the value is padded with Pad1."""
    size = (2 + len(value) + 7) & ~7
    return struct.pack('!BB', nh, size // 8 - 1) + value.ljust(size - 2, b'\0')


def routing6(nh, kind=0, left=0, addrs=()):
    return struct.pack('!BBBBI', nh, 2 * len(addrs), kind, left, 0) + b''.join(map(raw, addrs))


def ah(nh, icv=b'\0' * 12):
    return struct.pack('!BBHII', nh, (12 + len(icv)) // 4 - 2, 0, 0x100, 1) + icv


def frag6(nh, off=0, more=False, ident=9, reserved=0):
    return struct.pack('!BBHI', nh, reserved, off << 3 | more, ident)

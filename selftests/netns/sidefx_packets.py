# SPDX-License-Identifier: GPL-2.0
"""Packets, built field by field; checksums are right unless asked otherwise."""
import socket
import struct

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
ETH_IP, ETH_IP6 = 0x0800, 0x86dd


def csum(data):
    if len(data) & 1:
        data += b"\0"
    s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def addr(a):
    return socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)


def with_csum(src, dst, proto, body, at, bad=False):
    """Puts the transport checksum at offset at; pseudo header for all but ICMPv4."""
    pseudo = b""
    if proto != ICMP:
        fmt = "!4s4sxBH" if len(src) == 4 else "!16s16sI3xB"
        args = (src, dst, proto, len(body)) if len(src) == 4 else (src, dst, len(body), proto)
        pseudo = struct.pack(fmt, *args)
    c = csum(pseudo + body) or 0xffff
    if bad:
        c ^= 0x1234
    return body[:at] + struct.pack("!H", c) + body[at + 2:]


def tcp(src, dst, sport, dport, flags=0x02, seq=1000, ack=0, opts=b"", data=b"", res=0,
        urg=0, bad=False):
    off = (20 + len(opts)) // 4
    b = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, off << 4 | res, flags, 8192, 0, urg)
    return with_csum(addr(src), addr(dst), TCP, b + opts + data, 16, bad)


def udp(src, dst, sport, dport, data=b"x" * 20, bad=False, nocsum=False, proto=UDP):
    b = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return b if nocsum else with_csum(addr(src), addr(dst), proto, b, 6, bad)


def icmp(src, dst, type, code=0, rest=b"\0\x07\0\x01", data=b"abcdefgh", bad=False):
    b = struct.pack("!BBH", type, code, 0) + rest + data
    return with_csum(addr(src), addr(dst), ICMP6 if ":" in src else ICMP, b, 2, bad)


def ip4(src, dst, proto, body, tos=0, ttl=64, id=0x1234, frag=0, opts=b"", cut=0):
    opts += b"\0" * (-len(opts) % 4)
    h = struct.pack("!BBHHHBBH4s4s", 0x45 + len(opts) // 4, tos, 20 + len(opts) + len(body), id,
                    frag, ttl, proto, 0, addr(src), addr(dst)) + opts
    return h[:10] + struct.pack("!H", csum(h)) + h[12:] + body


def ip6(src, dst, proto, body, tc=0, label=0, hops=64, ext=()):
    """ext: pairs of a header's protocol and its bytes, the first byte (next header) left out."""
    chain = b""
    for nxt, data in reversed(ext):
        chain = bytes([proto]) + data + chain
        proto = nxt
    return struct.pack("!IHBB16s16s", 6 << 28 | tc << 20 | label, len(chain) + len(body), proto,
                       hops, addr(src), addr(dst)) + chain + body


def frag6(offset, more, id=0x77):
    return (44, struct.pack("!xHI", offset | more, id))


def fragments4(src, dst, proto, body, size, id=0x4321):
    """All fragments of one packet."""
    out = []
    for at in range(0, len(body), size):
        part = body[at:at + size]
        more = 0x2000 if at + size < len(body) else 0
        out.append(ip4(src, dst, proto, part, id=id, frag=at // 8 | more))
    return out


def fragments6(src, dst, proto, body, size, id=0x4321):
    out = []
    for at in range(0, len(body), size):
        more = 1 if at + size < len(body) else 0
        out.append(ip6(src, dst, proto, body[at:at + size], ext=[frag6(at, more, id)]))
    return out


def normal(pkt, label=True, lo=False):
    """
    What two answers are compared by: all but the identification and the time,
    and on lo, where the kernel leaves that out, the TCP checksum.
    """
    if pkt[0] >> 4 == 6:
        return pkt if label else pkt[:1] + b"\0\0\0" + pkt[4:]
    hlen = (pkt[0] & 15) * 4
    assert csum(pkt[:hlen]) == 0, "IP header checksum"
    p = bytearray(pkt)
    p[4:6] = b"\0\1" if pkt[4] or pkt[5] else b"\0\0"
    p[10:12] = b"\0\0"
    if lo and p[9] == TCP:
        p[hlen + 16:hlen + 18] = b"\0\0"
    i = 20
    while i < hlen:
        if p[i] == 0:
            break
        if p[i] == 1:
            i += 1
            continue
        if p[i] == 68:  # times within a second of each other, near enough
            blank_times(p, i)
        i += p[i + 1]
    if i > 20 and p[9] == 1:    # the quoted packet has a time, too
        p[hlen + 2:hlen + 4] = b"\0\0"
        for j in range(hlen + 8 + 20, min(len(p), hlen + 8 + (p[hlen + 8] & 15) * 4)):
            if p[j] == 68:
                blank_times(p, j)
                break
        p[hlen + 18:hlen + 20] = b"\0\0"
    return bytes(p)


def blank_times(p, i):
    step = 4 if p[i + 3] & 15 == 0 else 8
    for j in range(i + 4 + step - 4, i + p[i + 1] - 3, step):
        if any(p[j:j + 4]):
            p[j:j + 4] = b"TIME"


def show(pkt):
    return pkt[:20 if pkt[0] >> 4 == 4 else 40].hex() + " " + \
        pkt[20 if pkt[0] >> 4 == 4 else 40:][:64].hex() + " (%d)" % len(pkt)

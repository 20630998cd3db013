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


def packets4(src, dst):
    """Each with something of its own."""
    p = []
    for i, flags in enumerate((0x02, 0x10, 0x12, 0x04, 0x14, 0x01, 0x11, 0x00, 0x29, 0x42, 0xc2)):
        p.append(ip4(src, dst, TCP, tcp(src, dst, 1000 + i, 80, flags, 7000 + i, 99 + i,
                                        data=b"z" * i)))
    p.append(ip4(src, dst, TCP, tcp(src, dst, 1020, 80, opts=b"\2\4\5\xb4\4\2\1\1")))
    p.append(ip4(src, dst, TCP, tcp(src, dst, 1021, 80, seq=0xfffffff0, data=b"q" * 100)))
    p.append(ip4(src, dst, TCP, tcp(src, dst, 1022, 80, bad=True)))
    p.append(ip4(src, dst, TCP, tcp(src, dst, 1023, 80)[:12]))
    for i, n in enumerate((0, 1, 20, 499, 500, 508, 520, 521, 536, 548, 549, 1000, 1472)):
        p.append(ip4(src, dst, UDP, udp(src, dst, 2000 + i, 53, b"u" * n)))
    p.append(ip4(src, dst, UDP, udp(src, dst, 2020, 53, bad=True)))
    p.append(ip4(src, dst, UDP, udp(src, dst, 2021, 53, nocsum=True)))
    p.append(ip4(src, dst, UDP, udp(src, dst, 2022, 53)[:4]))
    p.append(ip4(src, dst, 136, udp(src, dst, 2023, 53, proto=136, bad=True)))
    for t in range(0, 20):
        p.append(ip4(src, dst, ICMP, icmp(src, dst, t, data=p[15])))
    p.append(ip4(src, dst, ICMP, icmp(src, dst, 200)))
    p.append(ip4(src, dst, ICMP, icmp(src, dst, 8, bad=True)))
    p.append(ip4(src, dst, ICMP, b""))
    for proto in (2, 4, 33, 47, 50, 51, 89, 132, 253):
        p.append(ip4(src, dst, proto, b"\1\2\3\4" * 8))
    p.append(ip4(src, dst, 89, b"\0\1" * 4 + b"\xff\xfe" * 4))     # sums up to nothing
    for tos in (0x04, 0x10, 0x1c, 0x20, 0x28, 0x2e, 0xb8, 0xff):
        p.append(ip4(src, dst, UDP, udp(src, dst, 2100 + tos, 53), tos=tos, ttl=200))
    p.append(ip4(src, dst, UDP, udp(src, dst, 2300, 53), frag=0x4000))
    p.append(ip4(src, dst, UDP, udp(src, dst, 2301, 53), id=1))
    p += fragments4(src, dst, UDP, udp(src, dst, 2400, 53, b"f" * 1500), 800)
    p += fragments4(src, dst, TCP, tcp(src, dst, 2401, 53, data=b"f" * 1500), 800)
    p.append(ip4(src, dst, UDP, b"lone fragment 16", frag=100))
    return p


def options4(src, dst):
    a = addr
    out = []
    for i, o in enumerate((
            b"\7\x0b\4" + b"\0" * 8,                            # record route
            b"\7\x0b\x0c" + a("1.2.3.4") * 2,                   # full
            b"\7\7\4" + b"\0" * 4,
            b"\1\1\7\x27\x08" + a("9.9.9.9") + b"\0" * 32,
            b"\x44\x0c\5\0" + b"\0" * 8,                        # timestamps
            b"\x44\x0c\x0d\0" + b"\0" * 8,                      # full
            b"\x44\x14\5\1" + b"\0" * 16,                       # with addresses
            b"\x44\x14\5\3" + a("10.1.1.1") + b"\0" * 4 + a("10.1.1.1") + b"\0" * 4,
            b"\x44\x14\5\3" + a("10.1.1.1") + b"\0" * 4 + a("8.8.8.8") + b"\0" * 4,
            b"\x44\x14\5\3" + a("8.8.8.8") + b"\0" * 4 + a("10.1.1.1") + b"\0" * 4,
            b"\x94\4\0\0",                                      # router alert
            b"\7\x0b\4" + b"\0" * 8 + b"\x44\x0c\5\0" + b"\0" * 8 + b"\x94\4\0\0",
            b"\x82\4\0\0", b"\1\1\1\1",
            b"\x83\7\4" + a(dst), b"\x83\x0b\x0c" + a("10.1.1.7") + a("10.1.1.8"),
            b"\x89\x0b\x0c" + a(src) + a("10.1.1.9"))):
        out.append(ip4(src, dst, UDP, udp(src, dst, 3000 + i, 53, nocsum=True, data=b"o" * 480),
                       opts=o))
        out.append(ip4(src, dst, UDP, udp(src, dst, 3100 + i, 53), opts=o))
        out.append(ip4(src, dst, TCP, tcp(src, dst, 3200 + i, 80), opts=o))
    return out


def packets6(src, dst):
    p = []
    for i, flags in enumerate((0x02, 0x10, 0x12, 0x04, 0x14, 0x01, 0x11, 0x00, 0x29, 0xc2)):
        p.append(ip6(src, dst, TCP, tcp(src, dst, 1000 + i, 80, flags, 7000 + i, 99 + i,
                                        data=b"z" * i), label=0x12345 + i))
    p.append(ip6(src, dst, TCP, tcp(src, dst, 1022, 80, bad=True)))
    p.append(ip6(src, dst, TCP, tcp(src, dst, 1023, 80)[:12]))
    opt8 = b"\0\1\4\0\0\0\0"        # 8 bytes less the next header: PadN
    for i, ext in enumerate(([(0, opt8)], [(60, opt8)], [(0, opt8), (60, b"\1" + opt8[1:] +
                             b"\1\6" + b"\0" * 6)], [frag6(0, 0)], [frag6(0, 0), (60, opt8)],
                             [(51, b"\4" + b"\0" * 22)])):
        p.append(ip6(src, dst, TCP, tcp(src, dst, 1100 + i, 80), ext=ext))
        p.append(ip6(src, dst, UDP, udp(src, dst, 1200 + i, 80), ext=ext))
        p.append(ip6(src, dst, ICMP6, icmp(src, dst, 128, data=bytes([i])), ext=ext))
    for i, n in enumerate((0, 1, 20, 1000, 1183, 1184, 1185, 1300, 1452)):
        p.append(ip6(src, dst, UDP, udp(src, dst, 2000 + i, 53, b"u" * n), tc=i * 5, hops=9))
    p.append(ip6(src, dst, UDP, udp(src, dst, 2020, 53, bad=True)))
    p.append(ip6(src, dst, UDP, udp(src, dst, 2021, 53, nocsum=True)))
    p.append(ip6(src, dst, UDP, udp(src, dst, 2022, 53)[:4]))
    p.append(ip6(src, dst, 136, udp(src, dst, 2023, 53, proto=136, bad=True)))
    for t in (0, 1, 2, 3, 4, 5, 100, 127, 128, 129, 140, 200, 255):
        p.append(ip6(src, dst, ICMP6, icmp(src, dst, t, data=p[0])))
    p.append(ip6(src, dst, ICMP6, icmp(src, dst, 128, bad=True)))
    p.append(ip6(src, dst, ICMP6, b""))
    for proto in (47, 50, 59, 89, 132, 253):
        p.append(ip6(src, dst, proto, b"\1\2\3\4" * 8))
    p += fragments6(src, dst, UDP, udp(src, dst, 2400, 53, b"f" * 1500), 800)
    p += fragments6(src, dst, TCP, tcp(src, dst, 2401, 53, data=b"f" * 1500), 800)
    p.append(ip6(src, dst, UDP, b"lone fragment 16", ext=[frag6(800, 0)]))
    p.append(ip6(src, dst, UDP, b"lone fragment 16", ext=[frag6(800, 0), (60, opt8)]))
    return p


def odd4(src, dst):
    """What makes log lines differ: flags, ICMP errors, what ends too early."""
    p = [ip4(src, dst, TCP, tcp(src, dst, 8000 + r, 80, 0xff, 1, 2, b"\2\4\5\xb4\1\1\1\0",
                                res=r, urg=77)) for r in range(16)]
    inner = ip4(dst, src, TCP, tcp(dst, src, 1, 2))
    inner_icmp = ip4(dst, src, ICMP, icmp(dst, src, 3, data=inner))
    for t in (3, 4, 5, 11, 12):
        for code in (0, 4):
            p.append(ip4(src, dst, ICMP, icmp(src, dst, t, code, b"\1\2\5\6", inner)))
            p.append(ip4(src, dst, ICMP, icmp(src, dst, t, code, b"\1\2\5\6", inner_icmp)))
        for n in (0, 19, 20, 24, 30):
            p.append(ip4(src, dst, ICMP, icmp(src, dst, t, data=inner[:n])))
    for t in (0, 8, 13, 14, 17, 18, 40):
        for n in (0, 4, 11, 12, 13, 20):
            p.append(ip4(src, dst, ICMP, icmp(src, dst, t, data=b"i" * n)[:n]))
    for proto in (50, 51, 47, 136):
        for n in (0, 7, 8, 11, 12, 30):
            p.append(ip4(src, dst, proto, b"\x81\x82\x83\x84" * 8)[:20 + n])
            p[-1] = ip4(src, dst, proto, (b"\x81\x82\x83\x84" * 8)[:n])
    p.append(ip4(src, dst, 51, b"frag", frag=77))
    p.append(ip4(src, dst, TCP, tcp(src, dst, 1, 2), frag=0xc000))
    return p


def odd6(src, dst):
    p = []
    inner = ip6(dst, src, TCP, tcp(dst, src, 1, 2))
    for t in (1, 2, 3, 4, 128, 129, 130, 131, 132, 200):
        for n in (0, 4, 30, 60):
            p.append(ip6(src, dst, ICMP6, icmp(src, dst, t, 0, b"\0\1\5\xdc", inner[:n])))
    opt8 = b"\0\1\4\0\0\0\0"
    ah = b"\4" + b"\0\0\1\2\3\4" + b"\0" * 16
    for ext in ([(0, opt8), (43, opt8)], [frag6(0, 1)], [frag6(1600, 0)],
                [frag6(1600, 0), (60, opt8)], [frag6(8, 1), (51, ah)], [(51, ah)],
                [(60, opt8), (51, ah)]):
        for proto, body in ((TCP, tcp(src, dst, 1, 2)), (UDP, udp(src, dst, 1, 2)[:5]),
                            (50, b"\1\2\3\4" * 3), (50, b"\1\2"), (59, b""), (ICMP6, b"\x80\0")):
            p.append(ip6(src, dst, proto, body, ext=ext))
    p.append(ip6(src, dst, 60, b"\x06\7" + b"\0" * 6))
    p.append(ip6(src, dst, 51, b"\x06\1" + b"\0" * 4))
    p.append(ip6(src, dst, 60, b"\6"))
    p.append(ip6(src, dst, 135, b"\0" * 8))
    return p

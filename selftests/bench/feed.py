# SPDX-License-Identifier: GPL-2.0
"""
The generator: an XDP program that writes the next of many headers into each of
its live frames and sends it out of a device.  The headers are of random rules,
in random order; the map is read from front to back, so that fetching them costs
the same, and little, whatever is measured.
"""
import mmap
import os
import struct

import bpfsys
import pkt

HEADERS = 28			# IP header, ports, and four bytes more
SLOT = 32			# of the map, for each
ETH = 14
LENGTH = 46			# of the IP packet: 60 bytes of frame, either protocol's header fits
SYN = struct.pack('!IBBHHH', 1, 5 << 4, pkt.SYN, 8192, 0, 0).ljust(LENGTH - HEADERS, b'\0')
WORD, DWORD = 0x61, 0x79	# BPF_LDX | BPF_MEM
STW, STDW = 0x63, 0x7b


def folded(total):
    total = (total & 0xffff) + (total >> 16)
    return (total & 0xffff) + (total >> 16)


def header(src, dst, proto, sport, dport):
    """
    @src, @dst: numbers.  IP header with its checksum, then ports and, of UDP, length and no
    checksum, of TCP a sequence number: the one that the rest's checksum, 0, is right with.
    """
    addrs = (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff)
    total = 0x4500 + LENGTH + 0x4000 + 0x4000 + proto + addrs	# don't fragment, TTL 64
    after = LENGTH - 20, 0
    if proto == pkt.TCP:
        rest = sum(struct.unpack(f'!{len(SYN) // 2}H', SYN))
        after = 0, ~folded(addrs + proto + LENGTH - 20 + sport + dport + rest) & 0xffff
    return struct.pack('!BBHHHBBHIIHHHH', 0x45, 0, LENGTH, 0, 0x4000, 64, proto,
                       ~folded(total) & 0xffff, src, dst, sport, dport, *after)


def frame(dst_mac, src_mac):
    """What the headers are written into: behind them a TCP header goes on, a SYN."""
    return pkt.pad(pkt.eth(dst_mac, src_mac, 0x800, bytes(HEADERS) + SYN))


class Keys:
    """Headers in a map."""

    def __init__(self, headers):
        """@headers: their number is a power of 2."""
        self.count = len(headers)
        if self.count & (self.count - 1):
            raise ValueError(f'{self.count} headers')
        size = self.count * SLOT + 8
        self.fd = bpfsys.map_create(bpfsys.MAP_ARRAY, 4, size, 1, bpfsys.F_MMAPABLE)
        with mmap.mmap(self.fd, size) as m:
            m[:self.count * SLOT] = b''.join(h.ljust(SLOT, b'\0') for h in headers)

    def program(self, ifindex):
        """An fd: writes the next headers into each frame, sends it out of the device."""
        i = bpfsys.insn
        copy = b''.join(i(DWORD, 3, 7, at) + i(STDW, 1, 3, ETH + at) for at in (0, 8, 16))
        copy += i(WORD, 3, 7, 24) + i(STW, 1, 3, ETH + 24)
        return bpfsys.load(bpfsys.TYPE_XDP, b''.join((
            i(0xbf, 6, 1),				# r6 = context
            bpfsys.map_value(1, self.fd, self.count * SLOT),
            i(DWORD, 2, 1), i(0xbf, 3, 2), i(0x07, 3, imm=1), i(STDW, 1, 3),	# r2 = turn++
            i(0x57, 2, imm=self.count - 1), i(0x67, 2, imm=5),
            bpfsys.map_value(7, self.fd, 0), i(0x0f, 7, 2),
            i(WORD, 1, 6), i(WORD, 2, 6, 4),		# data, end of data
            i(0xbf, 3, 1), i(0x07, 3, imm=ETH + HEADERS),
            i(0x2d, 3, 2, len(copy) // 8), copy,
            i(0xb7, 1, imm=ifindex), i(0xb7, 2), i(0x85, imm=bpfsys.REDIRECT), i(0x95))))

    def close(self):
        os.close(self.fd)

# SPDX-License-Identifier: GPL-2.0
"""Enough of bpf(2) to load programs of a few instructions, attach them, and send by them."""
import ctypes
import os
import socket
import struct

from netns import libc

SYS_bpf = 321			# x86-64
MAP_CREATE, PROG_LOAD, PROG_TEST_RUN, LINK_CREATE = 0, 5, 10, 28
OBJ_GET_INFO_BY_FD = 15
MAP_ARRAY, F_MMAPABLE = 2, 1 << 10
TYPE_SCHED_CLS, TYPE_XDP, ATTACH_XDP, ATTACH_TCX_EGRESS = 3, 6, 37, 47
DRV_MODE, LIVE_FRAMES = 1 << 2, 1 << 1
XDP_DROP, XDP_PASS = 1, 2
VLAN_PUSH, REDIRECT = 18, 23	# helpers
SKB_PROTOCOL = 16		# offset in struct __sk_buff


def bpf(cmd, attr):
    buf = ctypes.create_string_buffer(attr, len(attr))
    r = libc.syscall(SYS_bpf, cmd, buf, len(attr))
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, f'bpf({cmd}): {os.strerror(e)}')
    return r


def insn(op, dst=0, src=0, off=0, imm=0):
    return struct.pack('<BBhi', op, src << 4 | dst, off, imm)


def load(kind, code):
    insns = ctypes.create_string_buffer(code, len(code))
    text = ctypes.create_string_buffer(b'GPL')
    attr = struct.pack('<IIQQ', kind, len(code) // 8, ctypes.addressof(insns),
                       ctypes.addressof(text))
    return bpf(PROG_LOAD, attr.ljust(72, b'\0'))


def map_create(kind, key, value, entries, flags=0):
    """@key, @value: sizes in bytes."""
    return bpf(MAP_CREATE, struct.pack('<IIIII', kind, key, value, entries, flags).ljust(72, b'\0'))


def lookup(fd, key, size):
    """The @size bytes that a map has for @key; KeyError if it has none."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    try:
        bpf(1, struct.pack('=IxxxxQQQ', fd, ctypes.addressof(k), ctypes.addressof(v), 0))
    except FileNotFoundError:
        raise KeyError(key) from None
    return v.raw


def pinned(path):
    """An fd of what is pinned at @path."""
    buf = ctypes.create_string_buffer(path.encode())
    return bpf(7, struct.pack('=QII', ctypes.addressof(buf), 0, 0))


def map_value(reg, fd, off):
    """Two instructions: @reg = the address of byte @off of an array's only value."""
    return insn(0x18, reg, 2, imm=fd) + insn(0, imm=off)


def verdict_program(verdict):
    """An XDP program for which all packets are alike."""
    return load(TYPE_XDP, insn(0xb7, 0, imm=verdict) + insn(0x95))


def redirect_program(ifindex):
    """Sends each frame out of the device."""
    return load(TYPE_XDP, insn(0xb7, 1, imm=ifindex) + insn(0xb7, 2) +
                insn(0x85, imm=REDIRECT) + insn(0x95))


def tag_program(ethertype, tci):
    """For egress: frames of @ethertype get an 802.1Q tag, for the device to put in."""
    swapped = (socket.htons(ethertype), socket.htons(0x8100))
    return load(TYPE_SCHED_CLS, insn(0x61, 2, 1, SKB_PROTOCOL) + insn(0x55, 2, 0, 3, swapped[0]) +
                insn(0xb7, 2, imm=swapped[1]) + insn(0xb7, 3, imm=tci) +
                insn(0x85, imm=VLAN_PUSH) + insn(0xb7, 0) + insn(0x95))


def attach(prog, ifindex, where, flags=0):
    """In the current network namespace; lasts as long as the returned fd."""
    attr = struct.pack('<IIII', prog, ifindex, where, flags)
    return bpf(LINK_CREATE, attr.ljust(64, b'\0'))


def attach_xdp(prog, ifindex):
    return attach(prog, ifindex, ATTACH_XDP, DRV_MODE)


def attach_egress(prog, ifindex):
    """By TCX: Linux 6.6."""
    return attach(prog, ifindex, ATTACH_TCX_EGRESS)


def send(prog, frame, count):
    """Runs @prog on @count copies of @frame, as frames that have come in."""
    data = ctypes.create_string_buffer(frame, len(frame))
    bpf(PROG_TEST_RUN, struct.pack('<IIIIQQIIIIQQIII', prog, 0, len(frame), 0,
                                   ctypes.addressof(data), 0, count, 0, 0, 0, 0, 0,
                                   LIVE_FRAMES, 0, 0).ljust(80, b'\0'))


def object_info(fd, buf):
    """Fills the bytearray @buf with what the kernel tells of a program or map."""
    c = (ctypes.c_char * len(buf)).from_buffer(buf)
    bpf(OBJ_GET_INFO_BY_FD, struct.pack('<IIQ', fd, len(buf), ctypes.addressof(c)))


def next_id(cmd, attr):
    """*_GET_NEXT_ID: the number after that at the start of @attr; OSError without one."""
    buf = ctypes.create_string_buffer(bytes(attr), len(attr))
    if libc.syscall(SYS_bpf, cmd, buf, len(attr)) < 0:
        raise OSError(ctypes.get_errno(), 'GET_NEXT_ID')
    return struct.unpack_from('<I', buf, 4)[0]

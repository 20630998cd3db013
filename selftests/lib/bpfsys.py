# SPDX-License-Identifier: GPL-2.0
"""Enough of bpf(2) to load an XDP program of a few instructions, attach it, and send by it."""
import ctypes
import os
import struct

from netns import libc

SYS_bpf = 321			# x86-64
PROG_LOAD, PROG_TEST_RUN, LINK_CREATE = 5, 10, 28
TYPE_XDP, ATTACH_XDP, DRV_MODE, LIVE_FRAMES = 6, 37, 1 << 2, 1 << 1
XDP_DROP, REDIRECT = 1, 23


def bpf(cmd, attr):
    buf = ctypes.create_string_buffer(attr, len(attr))
    r = libc.syscall(SYS_bpf, cmd, buf, len(attr))
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, f'bpf({cmd}): {os.strerror(e)}')
    return r


def insn(op, dst=0, src=0, off=0, imm=0):
    return struct.pack('<BBhi', op, src << 4 | dst, off, imm)


def load_xdp(code):
    insns = ctypes.create_string_buffer(code, len(code))
    text = ctypes.create_string_buffer(b'GPL')
    attr = struct.pack('<IIQQ', TYPE_XDP, len(code) // 8, ctypes.addressof(insns),
                       ctypes.addressof(text))
    return bpf(PROG_LOAD, attr.ljust(72, b'\0'))


def drop_program():
    return load_xdp(insn(0xb7, 0, imm=XDP_DROP) + insn(0x95))


def redirect_program(ifindex):
    """Sends each frame out of the device."""
    return load_xdp(insn(0xb7, 1, imm=ifindex) + insn(0xb7, 2) + insn(0x85, imm=REDIRECT) +
                    insn(0x95))


def attach_xdp(prog, ifindex):
    """In the current network namespace; lasts as long as the returned fd."""
    attr = struct.pack('<IIII', prog, ifindex, ATTACH_XDP, DRV_MODE)
    return bpf(LINK_CREATE, attr.ljust(64, b'\0'))


def send(prog, frame, count):
    """Runs @prog on @count copies of @frame, as frames that have come in."""
    data = ctypes.create_string_buffer(frame, len(frame))
    bpf(PROG_TEST_RUN, struct.pack('<IIIIQQIIIIQQIII', prog, 0, len(frame), 0,
                                   ctypes.addressof(data), 0, count, 0, 0, 0, 0, 0,
                                   LIVE_FRAMES, 0, 0).ljust(80, b'\0'))

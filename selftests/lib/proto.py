# SPDX-License-Identifier: GPL-2.0
"""The helper's protocol (kernel/xtjit_msg.h), spoken without the shim."""
import array
import os
import socket
import struct

MAGIC, VERSION = 0x746a7478, 1
SET, GET, PROC, STATUS, ADOPT, RELEASE, DUMP = range(1, 8)
SET_REPLACE, SET_ADD, GET_INFO, GET_ENTRIES = 64, 65, 64, 65
IPV4 = 2
HEAD, REPLY = '=IHHQIBBBBIIQ', '=IHHQiIQ'


class Broken(Exception):
    """What came is no reply."""


def header(op, length, optname=0, family=IPV4, ident=0, fallback=0, early=0):
    ident = ident or int.from_bytes(os.urandom(7), 'little') + 1
    return struct.pack(HEAD, MAGIC, VERSION, op, ident, optname, family, early, fallback,
                       0, 0, 0, length)


def ident_of(head):
    return struct.unpack_from('=Q', head, 8)[0]


def receive(s, n):
    out = b''
    while len(out) < n:
        part = s.recv(n - len(out))
        if not part:
            raise Broken('the connection ended')
        out += part
    return out


def reply(s):
    """(id, status, payload, note)"""
    magic, _, _, ident, status, note_len, length = struct.unpack(
        REPLY, receive(s, struct.calcsize(REPLY)))
    if magic != MAGIC:
        raise Broken(f'magic number {magic:#x}')
    return ident, status, receive(s, length), receive(s, note_len).decode()


def exchange(path, head, payload=b'', fds=()):
    """One request over the socket at @path, with @fds: as reply()."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)			# with a time limit it would not wait for a place in the queue
        s.settimeout(30)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        try:
            s.sendmsg([head], rights)
            s.sendall(payload)
        except BrokenPipeError:		# refused by its header: the reply says why
            pass
        return reply(s)

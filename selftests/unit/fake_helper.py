#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A helper for the shim's test: --socket PATH --daemon, as xtjitd; hands each
request on to the kernel's own ip_tables.

Told what to do by files beside the socket:
  PATH.refuse   "ERRNO NOTE": SET is refused
  PATH.refuse_op  "ERRNO": so are STATUS, ADOPT, RELEASE, DUMP
  PATH.note     a note for every successful request
  PATH.die      before, after, half: killed at that point of the next request
  PATH.once     a connection ends with the first reply
and leaves there: PATH.log (a line a request), PATH.pid, PATH.reply.ID."""
import array
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys

MAGIC, REQ, REP = 0x746a7478, struct.Struct('=IHHQIBBBBIIQ'), struct.Struct('=IHHQiIQ')
SET, GET, PROC = 1, 2, 3
FAMILY = {2: (socket.AF_INET, 0, 'ip'), 10: (socket.AF_INET6, 41, 'ip6')}
GET_HDR, REPLACE_HDR = 40, 96
libc = ctypes.CDLL(None, use_errno=True)


def checked(ret):
    if ret < 0:
        raise OSError(ctypes.get_errno(), 'kernel')


def kernel_set(s, level, opt, data):
    buf = ctypes.create_string_buffer(data, len(data))
    counters = None
    if opt == 64 and len(data) >= REPLACE_HDR:
        n, = struct.unpack_from('=I', data, 84)
        room = ctypes.create_string_buffer(min(n, 1 << 20) * 16 + 1)
        struct.pack_into('=Q', buf, 88, ctypes.addressof(room))
        counters = room
    checked(libc.setsockopt(s.fileno(), level, opt, buf, len(data)))
    return counters.raw[:-1] if counters else b''


def kernel_get(s, level, opt, data):
    size = len(data)
    if opt == 65:
        size = GET_HDR + struct.unpack_from('=I', data, 32)[0]
    buf = ctypes.create_string_buffer(data, max(size, 1))
    n = ctypes.c_uint(size)
    checked(libc.getsockopt(s.fileno(), level, opt, buf, ctypes.byref(n)))
    return buf.raw[:n.value]


def ask_kernel(op, family, opt, data):
    af, level, name = FAMILY[family]
    if op == PROC:
        with open(f'/proc/thread-self/net/{name}_tables_{data.decode()}', 'rb') as f:
            return f.read()
    with socket.socket(af, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        return (kernel_set if op == SET else kernel_get)(s, level, opt, data)


def take(path):
    """The file's text, and the file is gone: for whoever comes first."""
    try:
        os.rename(path, f'{path}.{os.getpid()}')
        with open(f'{path}.{os.getpid()}') as f:
            return f.read().strip()
    except FileNotFoundError:
        return ''


def text(path):
    try:
        with open(path) as f:
            return f.read()
    except FileNotFoundError:
        return ''


def die(parent):
    os.kill(parent, signal.SIGKILL)
    os._exit(1)


def read_request(conn):
    data, anc, _, _ = conn.recvmsg(REQ.size, socket.CMSG_SPACE(4))
    if not data:
        os._exit(0)
    while len(data) < REQ.size:
        data += conn.recv(REQ.size - len(data))
    req = REQ.unpack(data)
    assert req[0] == MAGIC and req[1] == 1 and req[3] and len(anc) == 1
    fds = array.array('i', anc[0][2])
    payload = b''
    while len(payload) < req[11]:
        payload += conn.recv(req[11] - len(payload))
    return req, fds[0], payload


def answer(path, req, payload):
    _, _, op, rid, opt, family = req[:6]
    refuse = text(path + '.refuse') if op == SET else ''
    if refuse:
        code, note = refuse.split(' ', 1)
        return -getattr(errno, code), b'', note.encode()
    if op > PROC:
        text_ = f'op={op} family={family} {payload!r}\n'.encode()
        code = text(path + '.refuse_op').strip()
        return -getattr(errno, code, 0) if code else 0, text_, text(path + '.note').encode()
    try:
        return 0, ask_kernel(op, family, opt, payload), text(path + '.note').encode()
    except OSError as e:
        return -e.errno, b'', b''


def serve(conn, path, parent):
    req, netns, payload = read_request(conn)
    op, rid = req[2], req[3]
    with open(path + '.log', 'a') as f:
        print('op=%d id=%x opt=%d family=%d early=%d fallback=%d len=%d netns=%d conn=%d' % (
            op, rid, req[4], req[5], req[6], req[7], len(payload),
            os.fstat(netns).st_ino, os.getpid()), file=f)
    fate = take(path + '.die')
    if fate == 'before':
        die(parent)
    libc.setns(netns, 0x40000000)
    os.close(netns)
    done = f'{path}.reply.{rid:x}'
    if not os.path.exists(done):
        status, data, note = answer(path, req, payload)
        with open(done, 'wb') as f:
            f.write(REP.pack(MAGIC, 1, op, rid, status, len(note), len(data)) + data + note)
    if fate == 'after':
        die(parent)
    with open(done, 'rb') as f:
        reply = f.read()
    if fate == 'half':
        conn.sendall(reply[:REP.size + 5])
        die(parent)
    conn.sendall(reply)


def daemon(path):
    lock = os.open(path + '.lock', os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(path)
        return
    except OSError:
        pass
    if os.path.exists(path):
        os.unlink(path)
    sock.bind(path)
    sock.listen(64)
    if os.fork():
        return
    os.setsid()
    os.close(lock)
    null = os.open('/dev/null', os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with open(path + '.pid', 'a') as f:
        print(os.getpid(), file=f)
    while True:
        conn, _ = sock.accept()
        if not os.fork():
            sock.close()
            parent = os.getppid()
            serve(conn, path, parent)
            while not os.path.exists(path + '.once'):
                serve(conn, path, parent)
            os._exit(0)
        conn.close()


if __name__ == '__main__':
    if text(sys.argv[2] + '.broken'):
        sys.exit('fake helper: broken')
    daemon(sys.argv[2])

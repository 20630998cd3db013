#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Calls that no iptables makes, for the shim's test: prints what they return."""
import ctypes
import errno
import os
import socket
import struct
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
NAMES = '/proc/net/ip_tables_names'
V4 = (socket.AF_INET, socket.SOL_IP, 0)
V6 = (socket.AF_INET6, socket.IPPROTO_IPV6, 2)  # the revisions' options are 2 higher
BAD = 16


def result(ret):
    return ret if ret >= 0 else errno.errorcode[ctypes.get_errno()]


def get(fd, level, opt, val, size, lenp=True):
    """val: bytes to pass in, or an address."""
    n = ctypes.c_int(size)
    buf = val
    if isinstance(val, bytes):
        buf = ctypes.create_string_buffer(val, max(size, len(val), 1))
    ret = libc.getsockopt(fd, level, opt, buf, ctypes.byref(n) if lenp else None)
    return result(ret), n.value, buf.raw[:max(n.value, 0)].hex() if buf is not val else ''


def put(fd, level, opt, val, size):
    return result(libc.setsockopt(fd, level, opt, val, size))


def name(s):
    return s.encode().ljust(32, b'\0')


def errnos():
    for af, level, more in V4, V6:
        s = socket.socket(af, socket.SOCK_RAW, socket.IPPROTO_RAW)
        fd = s.fileno()
        info = get(fd, level, 64, name('filter') + bytes(52), 84)
        size = struct.unpack_from('=I', bytes.fromhex(info[2]), 76)[0]
        for size_ in 0, 1, 83, 84, 85, 5000, -1:
            r = get(fd, level, 64, name('filter') + bytes(5000), size_)
            print('info', size_, r[:2], r[2][:168])
        print('no table', get(fd, level, 64, name('nosuch') + bytes(52), 84))
        print('no NUL', get(fd, level, 64, b'x' * 84, 84))
        for want in 0, size, size + 8, 1 << 20:
            head = name('filter') + struct.pack('=II', want, 0)
            for total in 40 + want, 39, 40, 41 + want, 0, -1:
                r = get(fd, level, 65, head, total)
                print('entries', want - size, total - want, r[0], r[1], r[2][:80], len(r[2]))
        for opt in 66 + more, 67 + more:
            for n, rev in ('tcp', 0), ('tcp', 99), ('nosuch', 0), ('multiport', 1), ('LOG', 0):
                arg = n.encode().ljust(29, b'\0') + bytes([rev])
                print('revision', opt, n, rev, get(fd, level, opt, arg, 30),
                      get(fd, level, opt, arg, 29))
        print('no value', get(fd, level, 64, None, 84)[:2], get(fd, level, 65, None, 40)[:2],
              get(fd, level, 64, BAD, 84)[:2])
        print('no length', get(fd, level, 64, b'', 84, lenp=False)[0])
        for opt in 64, 65:
            for size in 0, 1, 50, 96, 97, -1:
                print('set', opt, size, put(fd, level, opt, bytes(200), size))
            print('set none', put(fd, level, opt, None, 200), put(fd, level, opt, BAD, 200))
        s.close()
    # the capability is the caller's, whoever made the socket
    for af, level, more in V4, V6:
        s = socket.socket(af, socket.SOCK_DGRAM)
        os.seteuid(65534)
        print('unprivileged', get(s.fileno(), level, 64, name('filter') + bytes(52), 84),
              put(s.fileno(), level, 64, bytes(200), 200))
        os.seteuid(0)


def options():
    """A table read and set back with the pointer for counters good, bad and none."""
    for af, level, _ in V4, V6:
        s = socket.socket(af, socket.SOCK_RAW, socket.IPPROTO_RAW)
        fd = s.fileno()
        info = bytes.fromhex(get(fd, level, 64, name('filter') + bytes(52), 84)[2])
        hooks, = struct.unpack_from('=I', info, 32)
        n, size = struct.unpack_from('=II', info, 76)
        entries = ctypes.create_string_buffer(name('filter') + struct.pack('=II', size, 0), 40 + size)
        length = ctypes.c_int(40 + size)
        ret = libc.getsockopt(fd, level, 65, entries, ctypes.byref(length))
        print('read', result(ret), length.value == 40 + size)
        full = b'\xff' * (16 * n + 1)
        room = ctypes.create_string_buffer(full, len(full))
        for pointer in ctypes.addressof(room), BAD, 0:
            arg = (name('filter') + struct.pack('=III', hooks, n, size) + info[36:76] +
                   struct.pack('=IQ', n, pointer) + entries.raw[40:])
            print('replace', put(fd, level, 64, arg, len(arg)))
        print('counters', n, room.raw[:16 * n] != b'\xff' * 16 * n, room.raw[16 * n:])
        add = name('filter') + struct.pack('=Q', n) + struct.pack('=QQ', 3, 5) * n
        print('add', put(fd, level, 65, add, len(add)),
              put(fd, level, 65, add, len(add) - 1))


def others():
    """What must go straight to the kernel."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s4, \
         socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s6, \
         socket.socket(socket.AF_UNIX) as unix, open('/dev/null') as null:
        for s in s4, s6, unix, null:
            fd = s.fileno()
            for level in socket.SOL_IP, socket.IPPROTO_IPV6, socket.SOL_SOCKET, socket.IPPROTO_UDP:
                for opt in 1, 2, 3, 63, 66, 67, 68, 70, 80, 83:
                    if s is s4 and level == socket.SOL_IP and 64 <= opt <= 67:
                        continue
                    if s is s6 and level == socket.IPPROTO_IPV6 and opt == 68:
                        continue
                    if level == socket.SOL_SOCKET and opt not in (2, 3):
                        continue
                    print(fd - s4.fileno(), level, opt, get(fd, level, opt, bytes(4), 4)[:2])
            for level in socket.SOL_IP, socket.IPPROTO_IPV6:
                print(put(fd, level, 66, bytes(4), 4), put(fd, level, 68, bytes(200), 200))
        print(get(s6.fileno(), socket.SOL_IP, 64, name('filter') + bytes(52), 84)[:2])
        print(get(unix.fileno(), socket.SOL_IP, 64, name('filter') + bytes(52), 84)[:2])
        print(get(null.fileno(), socket.SOL_IP, 64, name('filter') + bytes(52), 84)[:2])
        print(get(-1, socket.SOL_IP, 64, name('filter') + bytes(52), 84)[:2])
    for path in None, b'', b'/', b'/proc/net/ip_tables_names/', b'/proc/net/ip_tables_name':
        print(path, result(libc.open(path, 0)) if path != b'/' else '',
              result(libc.access(path, 0)), bool(libc.fopen(path or b'', b'r')) and path != b'/')


def fd_list():
    return sorted((int(x), os.readlink(f'/proc/self/fd/{x}')) for x in os.listdir('/proc/self/fd')
                  if os.path.exists(f'/proc/self/fd/{x}'))


def fds():
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    os.open(NAMES, os.O_RDONLY)
    hole = os.open('/dev/null', os.O_RDONLY)
    os.open('/dev/null', os.O_RDONLY)
    os.close(hole)
    before = fd_list()
    for _ in range(20):
        get(s.fileno(), socket.SOL_IP, 64, name('filter') + bytes(52), 84)
        get(s.fileno(), socket.SOL_IP, 64, name('nosuch') + bytes(52), 84)
        put(s.fileno(), socket.SOL_IP, 64, bytes(200), 200)
        os.close(os.open(NAMES, os.O_RDONLY))
        open(NAMES).close()
    assert fd_list() == before, (before, fd_list())
    for flags in 0, os.O_CLOEXEC:
        fd = libc.open(NAMES.encode(), flags)
        assert fd == hole, 'the lowest fd'
        assert os.get_inheritable(fd) == (not flags), 'O_CLOEXEC'
        try:
            os.write(fd, b'x')
            assert False, 'it can be written'
        except OSError as e:
            assert e.errno == errno.EBADF, e
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0 and b'filter\n' in os.read(fd, 100)
        os.close(fd)


def children():
    """The shim may start a helper; nobody here notices."""
    import signal
    import subprocess
    import time
    seen = []
    signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
    sock = os.environ['XTJIT_SOCKET']
    with open(sock + '.pid') as f:
        os.kill(int(f.read().split()[-1]), signal.SIGKILL)
    time.sleep(0.1)
    assert 'filter' in open(NAMES).read()
    assert not seen, 'a SIGCHLD'
    try:
        os.waitpid(-1, 0)
        assert False, 'a child'
    except ChildProcessError:
        pass
    assert subprocess.run(['cat', NAMES], capture_output=True).stdout
    if os.fork() == 0:
        os._exit('filter' not in open(NAMES).read())
    assert os.wait()[1] == 0, 'in a child'


def threads():
    good = []

    def work():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            for _ in range(20):
                r = get(s.fileno(), socket.SOL_IP, 64, name('filter') + bytes(52), 84)
                good.append(r[0] == 0 and 'filter' in open(NAMES).read())

    all_ = [threading.Thread(target=work) for _ in range(8)]
    before = len(fd_list())
    for t in all_:
        t.start()
    for t in all_:
        t.join()
    assert len(good) == 160 and all(good) and len(fd_list()) == before


if __name__ == '__main__':
    globals()[sys.argv[1]]()
    print('ok')

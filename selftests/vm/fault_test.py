#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
"""
What goes wrong around the module: a helper that answers garbage, dies while
namespaces come and go, is stopped; devices that come and go.  A request may fail;
nothing else may: rules stay in force, nothing leaks, no request hangs.
"""
import ctypes
import fcntl
import mmap
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import bpfsys
import diff
import dut
import kmod
import leak
import stream
import tap
from netns import Netns, run
from router import Router

# kernel/xtjit_dev.h
REQUEST = struct.Struct('=IHHQIBBBBIIQiI')	# struct xtjit_req, netns, flags
PAYLOAD, REPLY = struct.Struct('=QQQ'), struct.Struct('=QQQQIi')
COMMIT = struct.Struct('=QQQQIIiiIIB7x32sQII')
TABLE = struct.Struct('=iB3x32sQQ')
NETNS = struct.Struct('=QiI')
SIZES = dict(PAYLOAD=(1, 1, 24), REPLY=(1, 2, 40), COMMIT=(3, 3, 112), QUERY=(3, 4, 56),
             DROP=(1, 5, 56), NETNS=(3, 6, 16))
SECONDS = int(os.environ.get('XTJIT_SECONDS', '40'))


def code(name):
    direction, number, size = SIZES[name]
    return direction << 30 | size << 16 | ord('x') << 8 | number


class Liar(threading.Thread):
    """
    Has the device in place of the helper, and says what it likes to every request;
    the tables of @spared it lets alone.
    """

    def __init__(self, rnd, victim):
        super().__init__()
        self.r, self.victim, self.stop, self.served = rnd, victim, threading.Event(), 0
        # the kernel writes where it is told to, maybe behind the first 64 KiB
        self.memory = (ctypes.c_char * (2 << 20)).from_buffer(mmap.mmap(-1, 2 << 20))
        self.memory[:1 << 16] = rnd.randbytes(1 << 16)
        self.problem, self.progs = None, []

    def run(self):
        try:
            while not self.stop.is_set():
                self.one_life()
        except Exception as e:
            self.problem = repr(e)

    def one_life(self):
        """Opens the device, lies for a while, leaves with requests unanswered."""
        try:
            fd = os.open('/dev/xtjit', os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:		# the real one was started
            for pid in kmod.helpers():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            return
        try:
            for _ in range(self.r.randrange(1, 60)):
                if self.stop.is_set():
                    break
                self.one_request(fd)
        finally:
            os.close(fd)

    def one_request(self, fd):
        req = (0,) * 12 + (-1, 0)
        try:
            data = os.read(fd, self.r.choice((48, 48, 48, 0, 47, 100)))
            req = REQUEST.unpack(data)
            self.served += 1
        except OSError:
            time.sleep(0.002)
        try:
            for _ in range(self.r.randrange(6)):
                self.lie(fd, req[3], req[11])
            if self.r.random() < 0.6:
                self.control(fd, 'REPLY', self.reply(req[3]))
        finally:
            if req[12] >= 0:
                os.close(req[12])

    def control(self, fd, name, arg):
        buf = bytearray(arg)
        try:
            fcntl.ioctl(fd, code(name), buf)
        except OSError:
            return
        if name == 'NETNS':
            os.close(NETNS.unpack(buf)[1])

    def address(self):
        r, start = self.r, ctypes.addressof(self.memory)
        return r.choice((start, start + r.randrange(1 << 16), 0, 1, 0xffffffff81000000,
                         0x7ffffffff000, (1 << 64) - 1, start + (1 << 16) - 4))

    def number(self, *good):
        return self.r.choice(good + good + (0, 1, 7, 0xffffffff, 0x7fffffff, self.r.getrandbits(32)))

    def ident(self, right):
        return self.r.choice((right, right, right, 0, 1, self.r.getrandbits(64)))

    def lie(self, fd, ident, size):
        name = self.r.choice(('PAYLOAD', 'REPLY', 'COMMIT', 'COMMIT', 'QUERY', 'DROP', 'NETNS'))
        if name == 'PAYLOAD':
            self.control(fd, name, PAYLOAD.pack(self.ident(ident), self.address(),
                                                self.number(size & 0xffffffff)))
        elif name == 'REPLY' and self.r.random() < 0.2:
            self.control(fd, name, self.reply(ident))
        elif name == 'COMMIT':
            self.control(fd, name, self.commit(ident))
        elif name == 'NETNS':
            self.control(fd, name, NETNS.pack(self.ident(self.victim.cookie), -1, 0))
        elif name in ('QUERY', 'DROP'):
            self.control(fd, name, TABLE.pack(self.netns(), self.number(2, 10) & 255,
                                              self.table(), 0, 0))
        else:
            self.control(fd, name, self.r.randbytes(SIZES[name][2]))

    def reply(self, ident):
        status = self.r.choice((0, 0, 0, -1, -5, -22, -11, -4095, -4096, 1, -2 ** 31))
        return REPLY.pack(self.ident(ident), self.address(),
                          self.number(0, 84, 16, 1000) << self.r.choice((0, 0, 8, 20)),
                          self.address(), self.number(0, 20, 4096), status)

    def commit(self, ident):
        entries = self.number(0, 176, 152 * 4)
        prog = self.r.choice((-1, 0, 1, self.victim.fd, 9999, self.prog()))
        return COMMIT.pack(self.ident(ident), self.number(0, 1, 2), self.address(),
                           self.address(), entries, self.number(0, 1, 3, 1 << 20),
                           self.netns(), prog,
                           self.number(0, 1, 4, 5), 0, self.number(2, 10) & 255, self.table(),
                           self.address(), self.number(0, 1, 6, 1 << 20), 0)

    def netns(self):
        return self.r.choice((self.victim.fd, self.victim.fd, -1, 0, 1, 9999))

    def table(self):
        return self.r.choice((b'filter', b'nat', b'mangle', b'raw', b'x' * 32, b'', b'security'))

    def prog(self):
        """An fd of a program of the wrong type, or of none."""
        if not self.progs:
            self.progs = [bpfsys.verdict_program(bpfsys.XDP_DROP), os.memfd_create('no program')]
        return self.r.choice(self.progs)

    def end(self):
        self.stop.set()
        self.join(30)
        for fd in self.progs:
            os.close(fd)
        return self.problem


def client(ns, rnd):
    """One of iptables' commands, which may fail: its exit status; None if it hangs."""
    table = rnd.choice(('filter', 'nat', 'mangle'))
    args = rnd.choice((['-A', 'OUTPUT', '-p', 'tcp', '-j', 'ACCEPT'], ['-S'], ['-F'], ['-nvL'],
                       ['-A', 'OUTPUT', '-m', 'recent', '--set']))
    p = ns.popen(['iptables-legacy', '-t', table, *args], stdout=subprocess.DEVNULL,
                 stderr=subprocess.DEVNULL)
    try:
        return p.wait(30)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        return None


def test_liar(t, impl):
    """Rules that are in force stay so, whatever a false helper says about others."""
    rnd = random.Random(9)
    victim = Netns('victim')
    with stream.running(impl, False, pps=1000) as (net, s):
        liar = Liar(rnd, victim)
        impl.kill(signal.SIGKILL)
        liar.start()
        hung, asked, end = 0, 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            hung += client(victim, rnd) is None
            asked += 1
        problem = liar.end()
        t.ok(not problem and liar.served > 20, f'{liar.served} requests were answered by lies',
             problem)
        t.eq(hung, 0, f'none of {asked} commands hangs')
        victim.delete()
        s.check(t, 'the rules of another namespace were in force all the time')
    t.ok(dut.wait(lambda: kmod.loaded()['xtjit'] == (1 if impl.pid() else 0), 20),
         'nothing is left of the tables', str(kmod.loaded()['xtjit']))


RULES = '''*filter
:INPUT DROP [0:0]
:n{n} - [0:0]
-A INPUT -p tcp -m tcp --dport {n} -m recent --set --name n{n} -j n{n}
-A n{n} -s 10.{n}.0.0/16 -j REJECT
-A n{n} -m limit --limit {n}/hour -j LOG
COMMIT
*nat
-A POSTROUTING -p tcp -m tcp --dport {n} -j MASQUERADE
COMMIT
'''


def namespace(n, failed):
    """One that is made, gets rules, reads them back, and goes."""
    ns = Netns(f's{n}')
    try:
        text = RULES.format(n=n)
        for _ in range(3):	# a request that three helpers died of has failed
            r = ns.run(['iptables-legacy-restore', '-w', '30'], check=False, input=text)
            if not r.returncode:
                break
        save = ns.run(['iptables-legacy-save'], check=False).stdout
        want = [line for line in text.splitlines() if line[:2] == '-A']
        got = [line for line in save.splitlines() if line[:2] == '-A']
        if r.returncode or len(got) != len(want) or f'-A n{n} -s 10.{n}.0.0/16' not in save:
            failed.append(f'{n}: {r.returncode} {r.stderr[:200]} {save[-300:]}')
    finally:
        ns.delete()


def killer(stop, rnd, impl, count):
    # a request that three helpers die of is ended: they have the time to do some
    while not stop.wait(rnd.uniform(0.3, 2.5)):
        count.append(impl.kill(rnd.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))))


def test_namespaces(t, impl):
    """50 namespaces at work, four at a time, while the helper dies."""
    watch, before = leak.Watch(t, '50 namespaces'), pinned()
    stop, failed, count = threading.Event(), [], []
    k = threading.Thread(target=killer, args=(stop, random.Random(3), impl, count))
    k.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: namespace(n, failed), range(1, 51)))
    finally:
        stop.set()
        k.join()
    kills = sum(map(bool, count))
    t.ok(kills >= 5, f'the helper died {kills} times')
    t.ok(not failed, '50 namespaces had their rules', '\n'.join(failed[:5]))
    t.ok(dut.wait(lambda: pinned() == before, 15), 'nothing is pinned', str(pinned()))
    watch.check(objects=12)


def pinned():
    """Namespaces of which there are tables."""
    return {d for d in os.listdir(dut.PINS) if d.isdigit()} if os.path.exists(dut.PINS) else set()


def test_stopped(t, impl):
    """A helper that does not answer costs the request its time limit, and no more."""
    timeout = '/sys/module/xtjit/parameters/timeout'
    with open(timeout) as f:
        before = f.read()
    with open(timeout, 'w') as f:
        f.write('3')
    ns = Netns('stop')
    try:
        ns.run(['iptables-legacy', '-A', 'INPUT', '-p', 'udp', '-j', 'DROP'])
        pid = impl.kill(signal.SIGSTOP)
        start = time.monotonic()
        r = ns.run(['iptables-legacy', '-A', 'INPUT', '-p', 'tcp', '-j', 'DROP'], check=False)
        took = time.monotonic() - start
        t.ok(r.returncode and 2 < took < 15, f'stopped: an error after {took:.1f} s', r.stderr)
        p = ns.popen(['iptables-legacy', '-S'], stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        start = time.monotonic()
        p.kill()
        p.wait()
        t.ok(time.monotonic() - start < 2, 'a caller that waits can be killed')
        os.kill(pid, signal.SIGCONT)
        text = ns.run(['iptables-legacy', '-S']).stdout
        t.ok('-p udp' in text and '-p tcp' not in text, 'going on: as if not asked before', text)
        impl.kill(signal.SIGSTOP)
        p = ns.popen(['iptables-legacy', '-A', 'INPUT', '-p', 'icmp', '-j', 'DROP'])
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        t.eq(p.wait(20), 0, 'stopped, then killed: the next one does it')
        t.ok('-p icmp' in ns.run(['iptables-legacy', '-S']).stdout, 'and once')
    finally:
        with open(timeout, 'w') as f:
            f.write(before)
        ns.delete()


def dropped(sock, host):
    try:
        sock.sendto(b'x', (host, 9))
    except PermissionError:
        return True
    return False


def test_callers(t, impl):
    """
    Callers are killed amid changes of one rule, which are keys written in the maps in force:
    the rule is there, or it is not, and drops accordingly.
    """
    ns, rnd = Netns('callers'), random.Random(5)
    old = [f'127.0.9.{i}' for i in range(1, 200)]
    try:
        ns.run(['ip', 'link', 'set', 'lo', 'up'])
        ns.run(['iptables-legacy-restore'], input='*filter\n' + ''.join(
            f'-A OUTPUT -d {h} -j DROP\n' for h in old) + 'COMMIT\n')
        start = time.monotonic()
        for host in '127.0.8.250', '127.0.8.251':	# the first makes room for others
            ns.run(['iptables-legacy', '-A', 'OUTPUT', '-d', host, '-j', 'DROP'])
        took = (time.monotonic() - start) / 2
        sock = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        came, wrong = 0, []
        for i in range(60):
            host = f'127.0.8.{i + 1}'
            p = ns.popen(['iptables-legacy', '-A', 'OUTPUT', '-d', host, '-j', 'DROP'])
            time.sleep(took * rnd.uniform(0.3, 1.1))
            p.kill()
            p.wait()
            there = f'{host}/32' in ns.run(['iptables-legacy', '-S']).stdout
            came += there
            if dropped(sock, host) != there or not dropped(sock, rnd.choice(old)):
                wrong.append(host)
        t.ok(0 < came < 60, f'callers are killed: {came} of 60 rules came')
        t.ok(not wrong, 'each drops if it is there', wrong)
        ns.run(['iptables-legacy', '-F'])
        t.ok(not dropped(sock, old[0]), 'none is left')
        sock.close()
    finally:
        ns.delete()


def test_devices(t, impl):
    """Devices come, change their names, and go while rules about them change."""
    stop = threading.Event()
    r = Router('dev', impl, False)

    def devices():
        n = 0
        while not stop.is_set():
            n += 1
            r.ns.run(['ip', '-batch', '-'], check=False, input=(
                f'link add d{n % 7} type dummy\nlink set d{n % 7} up\n'
                f'addr add 10.9.{n % 250}.1/24 dev d{n % 7}\n'
                f'link add v{n % 5} type veth peer name w{n % 5}\nlink set v{n % 5} up\n'
                f'link set d{n % 7} down\nlink set d{n % 7} name x{n % 3}\nlink del v{n % 5}\n'
                f'link del x{n % 3}\n'))
    maker = threading.Thread(target=devices)
    maker.start()
    failed = []
    try:
        for i in range(60):
            q = r.firewall('-w', '20', '-A', 'INPUT', '-i', f'd{i % 7}', '-p', 'udp', '--dport',
                           str(i + 1), '-j', 'DROP', check=False)
            if q.returncode:
                failed.append(q.stderr)
    finally:
        stop.set()
        maker.join()
    t.ok(not failed, '60 updates while devices come and go', '\n'.join(failed[:5]))
    lines = diff.tables(r.save())['*filter']
    t.eq(sum('-A INPUT' in line for line in lines), 60, 'all of them are there')
    r.close()


def main():
    t = tap.Tap()
    os.environ['XTJIT_EARLY'] = 'on'
    kmod.xtjit_in('on')
    impl = dut.Module()
    try:
        run(['iptables-legacy', '-S'])
        for name, fn in (('stopped', test_stopped), ('liar', test_liar),
                         ('namespaces', test_namespaces), ('callers', test_callers),
                         ('devices', test_devices)):
            if not sys.argv[1:] or name in sys.argv[1:]:
                start = time.monotonic()
                t.guard(name, fn, t, impl)
                t.diag(f'{name}: {time.monotonic() - start:.0f} s')
    finally:
        kmod.xtjit_out()
    return t.done()


sys.exit(main())

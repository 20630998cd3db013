# SPDX-License-Identifier: GPL-2.0
"""
The helper as its clients see it: one network namespace, traffic of its own
over loopback (and a veth pair for the early stage), stock iptables through the
shim, and the bare protocol.

    sender --127.0.0.1:9--> OUTPUT rule --> INPUT rule --> nobody

Each datagram must be counted once by each of the two rules, whatever happens
to tables and helper meanwhile.

A test program has functions @test, whose doc string is the test's name, and
ends by sys.exit(main()).  Its arguments: words of the names of tests to be run.
"""
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import proto
import tap
from dut import BUILD

PID = os.getpid()


class Failed(Exception):
    pass


def check(cond, text):
    if not cond:
        raise Failed(text)


def run(cmd, **kw):
    return subprocess.run(cmd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


class World:
    """A namespace, and a helper with its own socket."""

    def __init__(self, options=()):
        self.dir = tempfile.mkdtemp(prefix="xtjit-srv-")
        self.sock = self.dir + "/h.sock"
        self.ns = "xsrv%d" % PID
        self.options = list(options)
        self.helper = None
        self.sender = None
        self.env = dict(os.environ, LD_PRELOAD=BUILD + "/libxtjit-shim.so",
                        XTJIT_SOCKET=self.sock)
        for k in ("XTJIT_HELPER", "XTJIT_EARLY", "XTJIT_FALLBACK"):
            self.env.pop(k, None)
        self.new_ns()
        self.start()

    def new_ns(self):
        run(["ip", "netns", "del", self.ns])
        check(run(["ip", "netns", "add", self.ns]).returncode == 0, "no namespace")
        self.plain("ip", "link", "set", "lo", "up")

    def start(self):
        # appended to: a helper that is killed and started again is one story
        log = open(self.dir + "/log", "a")
        self.helper = subprocess.Popen([BUILD + "/xtjitd", "--socket", self.sock] + self.options,
                                       stdout=log, stderr=log)
        for _ in range(200):
            if self.helper.poll() is not None:
                time.sleep(0.02)
                self.helper = subprocess.Popen([BUILD + "/xtjitd", "--socket", self.sock] +
                                               self.options, stdout=log, stderr=log)
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(self.sock)
                s.close()
                return
            except OSError:
                s.close()
                time.sleep(0.02)
        raise Failed("the helper does not start: " + self.log())

    def log(self):
        """Of our helper, and of one that a client started."""
        text = ""
        for name in (self.dir + "/log", self.sock + ".log"):
            if os.path.exists(name):
                text += open(name).read()[-2000:]
        return text

    def kill(self, sig=signal.SIGKILL):
        self.helper.send_signal(sig)
        return self.helper.wait()

    def plain(self, *cmd):
        return run(["ip", "netns", "exec", self.ns, *cmd])

    def ipt(self, *args, cmd="iptables-legacy", ok=True, stdin=None, env=None):
        r = run(["ip", "netns", "exec", self.ns, cmd, *args], input=stdin,
                env=dict(self.env, **(env or {})))
        if ok:
            check(r.returncode == 0, "%s %s: %s" % (cmd, " ".join(args), r.stderr + self.log()))
        return r

    def save(self, table="filter", cmd="iptables-legacy-save", counters=True):
        r = self.ipt(*(["-c"] if counters else []), "-t", table, cmd=cmd)
        return "\n".join(l for l in r.stdout.splitlines() if not l.startswith("#"))

    def xtjit(self, *args, ok=True):
        r = self.ipt(*args, cmd=BUILD + "/xtjit", ok=ok)
        return r.stdout + r.stderr

    def status(self):
        return self.xtjit("status")

    def traffic(self):
        """Starts the sender; stop_traffic() tells how many datagrams it sent."""
        code = ("import socket,time,signal,sys\n"
                "stop=[]\n"
                "signal.signal(signal.SIGTERM, lambda *a: stop.append(1))\n"
                "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
                "n=0\n"
                "print('go',flush=True)\n"
                "while not stop:\n"
                "  for i in range(20):\n"
                "    try: s.sendto(b'x',('127.0.0.1',9)); n+=1\n"
                "    except PermissionError: n+=1\n"
                "    except ConnectionRefusedError: pass\n"
                "  time.sleep(0.0005)\n"
                "print(n)\n")
        self.sender = subprocess.Popen(["ip", "netns", "exec", self.ns, sys.executable, "-c", code],
                                       stdout=subprocess.PIPE, text=True)
        self.sender.stdout.readline()

    def stop_traffic(self):
        self.sender.send_signal(signal.SIGTERM)
        n = int(self.sender.stdout.read())
        self.sender.wait()
        self.sender = None
        time.sleep(0.05)
        return n

    def close(self):
        if self.sender:
            self.sender.kill()
            self.sender.wait()
        run(["ip", "netns", "del", self.ns])
        if self.helper and self.helper.poll() is None:
            # gone namespaces are cleared up once a second
            for _ in range(60):
                if not self.pins():
                    break
                time.sleep(0.1)
            self.kill(signal.SIGTERM)
        root = self.root()
        if root:
            subprocess.run(["rm", "-rf", root])
        run(["umount", self.dir + "/h.d/netns"])
        subprocess.run(["rm", "-rf", self.dir])

    def root(self):
        base = "/sys/fs/bpf/xtjit"
        h = 0xcbf29ce484222325
        for c in self.sock.encode():
            h = ((h ^ c) * 0x100000001b3) & (1 << 64) - 1
        path = "%s/h-sock-%016x" % (base, h)
        return path if os.path.isdir(path) else None

    def pins(self):
        """Directories of namespaces."""
        root = self.root()
        return [d for d in os.listdir(root) if os.path.isdir(root + "/" + d)] if root else []

    def call(self, op, payload=b"", optname=0, ident=0, head=None):
        """One exchange: (status, payload, note); @head: a header in place of ours."""
        ours = proto.header(op, len(payload), optname, ident=ident)
        with open("/run/netns/" + self.ns) as ns:
            got, *rest = proto.exchange(self.sock, head or ours, payload, [ns.fileno()])
        check(head or got == proto.ident_of(ours), "the reply to another request")
        return tuple(rest)

    # the raw socket options of table filter

    def info(self):
        status, data, _ = self.call(proto.GET, b"filter".ljust(84, b"\0"), proto.GET_INFO)
        check(status == 0, "GET_INFO: %d" % status)
        return struct.unpack("=32sI5I5III", data)

    def entries(self):
        i = self.info()
        status, data, _ = self.call(proto.GET, struct.pack("=32sIxxxx", b"filter", i[-1]),
                                    proto.GET_ENTRIES)
        check(status == 0, "GET_ENTRIES: %d" % status)
        return data[40:]

    def replace_arg(self, entries=None, num_counters=None):
        i = self.info()
        entries = entries or self.entries()
        return struct.pack("=32sIII5I5IIxxxxQ", b"filter", i[1], i[-2], i[-1], *i[2:7], *i[7:12],
                           i[-2] if num_counters is None else num_counters, 0)[:96] + entries


def rule_counts(save, pattern):
    """Packets of the rules that match."""
    return [int(m.group(1)) for m in re.finditer(r"^\[(\d+):\d+\] " + pattern, save, re.M)]


def counting_rules(w):
    w.ipt("-F")
    w.ipt("-A", "OUTPUT", "-d", "127.0.0.1", "-p", "udp", "--dport", "9")
    w.ipt("-A", "INPUT", "-d", "127.0.0.1", "-p", "udp", "--dport", "9", "-j", "DROP")


def check_counts(w, sent, what):
    s = w.save()
    out = rule_counts(s, r"-A OUTPUT .*--dport 9$")
    inp = rule_counts(s, r"-A INPUT .*--dport 9 -j DROP")
    check(out == [sent] and inp == [sent], "%s: sent %d, OUTPUT %s, INPUT %s" %
          (what, sent, out, inp))


TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def main():
    t = tap.Tap()
    for fn in TESTS:
        if all(word not in fn.__name__ for word in sys.argv[1:] or [""]):
            continue
        w = None
        try:
            w = World()
            fn(w)
            t.ok(True, fn.__doc__)
        except Exception as e:
            t.ok(False, fn.__doc__, "%s: %s\nlog: %s" % (type(e).__name__, e, w and w.log()))
        finally:
            if w:
                w.close()
    return t.done()

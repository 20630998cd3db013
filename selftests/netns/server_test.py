#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
The helper as its clients see it: one network namespace, traffic of its own
over loopback (and a veth pair for the early stage), stock iptables through the
shim, and the bare protocol.

    sender --127.0.0.1:9--> OUTPUT rule --> INPUT rule --> nobody

Each datagram must be counted once by each of the two rules, whatever happens
to tables and helper meanwhile.

usage: server_test.py [-k WORD]		only the tests whose name has WORD
"""
import array
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("XTJIT_BUILD", ROOT + "/build")
PID = os.getpid()
MAGIC, VERSION = 0x746a7478, 1
SET, GET, PROC, STATUS, ADOPT, RELEASE, DUMP = range(1, 8)
SET_REPLACE, SET_ADD, GET_INFO, GET_ENTRIES = 64, 65, 64, 65


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

    def call(self, op, payload=b"", optname=0, family=2, ident=None, fallback=0, early=0,
             head=None):
        """One exchange: (status, payload, note)."""
        with open("/run/netns/" + self.ns) as ns:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(30)
            s.connect(self.sock)
            ident = ident or int.from_bytes(os.urandom(7), "little") + 1
            h = head or struct.pack("=IHHQIBBBBIIQ", MAGIC, VERSION, op, ident, optname, family,
                                    early, fallback, 0, 0, 0, len(payload))
            fds = array.array("i", [ns.fileno()])
            try:
                s.sendmsg([h], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
                s.sendall(payload)
            except BrokenPipeError:
                pass
            rep = recv_all(s, 32)
            magic, _, _, rid, status, note_len, length = struct.unpack("=IHHQiIQ", rep)
            check(magic == MAGIC and (head or rid == ident), "a strange reply")
            data = recv_all(s, length)
            note = recv_all(s, note_len)
            s.close()
            return status, data, note.decode()

    # the raw socket options of table filter

    def info(self):
        status, data, _ = self.call(GET, b"filter".ljust(84, b"\0"), GET_INFO)
        check(status == 0, "GET_INFO: %d" % status)
        return struct.unpack("=32sI5I5III", data)

    def entries(self):
        i = self.info()
        status, data, _ = self.call(GET, struct.pack("=32sIxxxx", b"filter", i[-1]), GET_ENTRIES)
        check(status == 0, "GET_ENTRIES: %d" % status)
        return data[40:]

    def replace_arg(self, entries=None, num_counters=None):
        i = self.info()
        entries = entries or self.entries()
        return struct.pack("=32sIII5I5IIxxxxQ", b"filter", i[1], i[-2], i[-1], *i[2:7], *i[7:12],
                           i[-2] if num_counters is None else num_counters, 0)[:96] + entries


def recv_all(s, n):
    out = b""
    while len(out) < n:
        d = s.recv(n - len(out))
        check(d, "the connection ended")
        out += d
    return out


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


@test
def commands_as_with_the_kernel(w):
    """every command of iptables leaves the same text as with the kernel's own"""
    script = """-N a
-N b
-A a -s 10.0.0.0/8 -j DROP
-A INPUT -j a
-A INPUT -p tcp --dport 22 -j ACCEPT
-I INPUT 1 -i lo -p udp -j b
-A b -p udp --dport 9 -j RETURN
-R a 1 -s 11.0.0.0/8 -j DROP
-E a c
-P FORWARD DROP
-A OUTPUT -d 127.0.0.1
SEND
-D INPUT 3
SEND
-Z b
SEND
-I INPUT -p udp -j b
SEND
-F c
-D INPUT -j c
-X c
-C INPUT -p udp -j b""".splitlines()

    def play(go):
        out = []
        for line in script:
            if line == "SEND":
                w.plain(sys.executable, "-c", "import socket\ns=socket.socket(2,2)\n"
                        "for i in range(7): s.sendto(b'abc',('127.0.0.1',9))")
                time.sleep(0.05)
                continue
            r = go("iptables-legacy", *line.split())
            out.append("%s: %d %s" % (line, r.returncode, r.stderr))
        for args in (["-nvxL", "--line-numbers"], ["-S"]):
            out.append(go("iptables-legacy", *args).stdout)
        out += [l for l in go("iptables-legacy-save", "-c").stdout.splitlines() if l[0] != "#"]
        return "\n".join(out)

    ours = play(lambda cmd, *a: w.ipt(*a, cmd=cmd, ok=False))
    check("ip filter: xtjit" in w.status(), "not xtjit's")
    w.new_ns()
    theirs = play(w.plain)
    w.new_ns()
    if ours != theirs:
        a, b = ours.splitlines(), theirs.splitlines()
        bad = [x for x in zip(a, b) if x[0] != x[1]]
        raise Failed("first difference: %r" % (bad[0] if bad else "length",))


@test
def restore_and_save(w):
    """iptables-restore -c and -n, ip6tables too, give back what save says"""
    text = """*filter
:INPUT ACCEPT [1:2]
:FORWARD DROP [3:4]
:OUTPUT ACCEPT [5:6]
:x - [0:0]
[7:8] -A FORWARD -i eth0 -j x
[9:10] -A x -p tcp -m multiport --dports 80,443 -j ACCEPT
COMMIT"""
    w.ipt("-c", cmd="iptables-legacy-restore", stdin=text + "\n")
    check(w.save() == text, "saved text differs:\n" + w.save())
    w.ipt("-n", cmd="iptables-legacy-restore",
          stdin="*filter\n-A x -p udp -j DROP\nCOMMIT\n")
    check(w.save().count("-A x") == 2 and "[9:10] -A x" in w.save(), "-n: " + w.save())
    w.ipt("-c", cmd="ip6tables-legacy-restore", stdin=text + "\n")
    check(w.save(cmd="ip6tables-legacy-save") == text, "ip6: saved text differs")
    check(w.plain("cat", "/proc/net/ip_tables_names").stdout == "", "the kernel has a table, too")


@test
def bad_peers(w):
    """what makes no sense is refused, and the helper lives on"""
    ns = open("/run/netns/" + w.ns)
    good = struct.pack("=IHHQIBBBBIIQ", MAGIC, VERSION, GET, 5, GET_INFO, 2, 0, 0, 0, 0, 0, 84)
    for at, value in ((0, b"XXXX"), (4, b"\7\0"), (8, b"\0" * 8), (20, b"\xff"), (21, b"\xff"),
                      (23, b"\1"), (32, b"\xff" * 8)):
        bad = good[:at] + value + good[at + len(value):]
        status, _, note = w.call(GET, b"filter".ljust(84, b"\0"), head=bad)
        check(status < 0, "accepted: byte %d" % at)
    fds = array.array("i", [os.open("/dev/null", os.O_RDONLY), os.open("/", os.O_RDONLY)])
    for passed in (None, fds):
        s = socket.socket(socket.AF_UNIX)
        s.connect(w.sock)
        s.sendmsg([good], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)] if passed else [])
        check(struct.unpack("=IHHQiIQ", recv_all(s, 32))[4] == -9, "no namespace: accepted")
        s.close()
    # slow, silent and too many peers
    conns = []
    for i in range(80):
        s = socket.socket(socket.AF_UNIX)
        s.connect(w.sock)
        conns.append(s)
        if i < 40:
            s.send(good[:i])
    for s in conns:
        s.close()
    for n in range(0, 120, 7):
        for op, opt in ((SET, SET_REPLACE), (SET, SET_ADD), (GET, GET_INFO), (GET, GET_ENTRIES),
                        (PROC, 0), (DUMP, 0), (99, 0), (SET, 70), (GET, 71)):
            w.call(op, os.urandom(n), opt)
    check(w.call(GET, b"nosuch".ljust(84, b"\0"), GET_INFO)[0] == -2, "unknown table")
    check(w.call(GET, b"filter".ljust(83, b"\0"), GET_INFO)[0] == -22, "length of GET_INFO")
    code = ("import os,socket\nos.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
            "try:\n s.connect('%s'); print(len(s.recv(1)))\nexcept OSError as e: print(0)\n"
            % w.sock)
    os.chmod(w.dir, 0o755)
    os.chmod(w.sock, 0o666)
    check(run([sys.executable, "-c", code]).stdout == "0\n", "a user is answered")
    ns.close()
    check(w.helper.poll() is None and "ACCEPT" in w.ipt("-S").stdout, "the helper is gone")


@test
def done_once(w):
    """a request that is repeated is answered again, and not done again"""
    counting_rules(w)
    w.ipt("-A", "INPUT", "-s", "10.0.0.1")
    w.plain(sys.executable, "-c",
            "import socket\ns=socket.socket(2,2)\nfor i in range(5): s.sendto(b'',('127.0.0.1',9))")
    time.sleep(0.05)
    n = w.info()[-2]
    arg = w.replace_arg()
    first = w.call(SET, arg, SET_REPLACE, ident=77)
    check(first[0] == 0 and len(first[1]) == 16 * n, "REPLACE: %r" % (first[0],))
    check(struct.unpack("=%dQ" % (2 * n), first[1])[0] == 5, "not the old counters")
    add = struct.pack("=32sIxxxx", b"filter", n) + struct.pack("=%dQ" % (2 * n), *range(2 * n))
    check(w.call(SET, add, SET_ADD, ident=78)[0] == 0, "ADD_COUNTERS")
    saved = w.save()
    for restart in (False, True):
        if restart:
            w.kill()
            w.start()
        check(w.call(SET, add, SET_ADD, ident=78)[0] == 0, "ADD_COUNTERS again")
        check(w.save() == saved, "added twice")
        check(w.call(SET, arg, SET_REPLACE, ident=77)[:2] == first[:2], "REPLACE again")
        check(w.save() == saved, "replaced twice")
    check(w.call(SET, w.replace_arg(num_counters=n + 1), SET_REPLACE)[0] == -11, "EAGAIN")
    check(w.save() == saved, "a failed request changed something")


def updates_and_kills(w, commands):
    """Runs each command (text, for a shell), and kills the helper meanwhile."""
    for i, cmd in enumerate(commands):
        p = subprocess.Popen(["ip", "netns", "exec", w.ns, "sh", "-c", cmd], env=w.env,
                             stderr=subprocess.PIPE, text=True)
        time.sleep(0.003 * (i % 25))
        w.kill()
        w.start()
        _, err = p.communicate(timeout=60)
        check(p.returncode == 0, "%s: %s" % (cmd, err))


@test
def killed(w):
    """the helper is killed while rules change under traffic: no packet is lost or counted twice"""
    counting_rules(w)
    w.traffic()
    updates_and_kills(w, ["iptables-legacy -A INPUT -s 10.1.%d.0/24 -j DROP && "
                          "iptables-legacy -I OUTPUT -d 10.2.%d.0/24" % (i, i)
                          for i in range(40)])
    check_counts(w, w.stop_traffic(), "killed")
    s = w.save()
    check(s.count("-s 10.1.") == 40 and s.count("-d 10.2.") == 40, "rules are missing: " + s)


@test
def started_from_within(w):
    """a helper that a client starts in a namespace's own mount namespace finds the state"""
    counting_rules(w)
    before = w.save()
    w.kill()
    env = {"XTJIT_HELPER": BUILD + "/xtjitd"}
    check(w.ipt("-c", cmd="iptables-legacy-save", env=env).stdout.count("--dport 9") == 2, "lost")
    for pid in run(["pgrep", "-f", "^" + BUILD + "/xtjitd --socket " + w.sock]).stdout.split():
        os.kill(int(pid), signal.SIGTERM)
    w.start()
    check(w.save() == before, w.save())


@test
def recovery(w):
    """a new helper finds rules, counters, hooks and numbers as they were"""
    counting_rules(w)
    w.ipt("-A", "FORWARD", "-p", "tcp", "-m", "limit", "--limit", "1/s", "-j", "DROP",
          cmd="ip6tables-legacy")
    w.traffic()
    before = [l for l in w.status().splitlines() if not l.startswith(("helper", "  req", "  log"))]
    check(w.kill(signal.SIGTERM) == 0, "SIGTERM: not a clean exit")
    time.sleep(0.1)
    w.start()
    after = [l for l in w.status().splitlines() if not l.startswith(("helper", "  req", "  log"))]
    check(before == after, "status differs: %s %s" % (before, after))
    w.ipt("-A", "INPUT", "-s", "10.0.0.9")
    check_counts(w, w.stop_traffic(), "recovery")
    check("-m limit" in w.save(cmd="ip6tables-legacy-save"), "ip6 rule lost")


@test
def refused(w):
    """XTJIT_FALLBACK=refuse: a precise reason, and nothing changes"""
    counting_rules(w)
    before = w.save()
    r = w.ipt("-A", "INPUT", "-m", "recent", "--set", ok=False, env={"XTJIT_FALLBACK": "refuse"})
    check(r.returncode != 0 and "recent" in r.stderr and "INPUT" in r.stderr and
          "XTJIT_FALLBACK" in r.stderr, "reason: " + r.stderr)
    check(w.save() == before and "ip filter: xtjit" in w.status(), "something changed")


@test
def to_the_kernel_and_back(w):
    """a table moves to ip_tables and back under traffic: every packet once"""
    counting_rules(w)
    w.traffic()
    for i in range(6):
        w.ipt("-A", "INPUT", "-s", "10.9.9.9", "-m", "recent", "--set")
        check("ip filter: kernel" in w.status() and "recent" in w.status(), w.status())
        w.ipt("-A", "OUTPUT", "-s", "10.9.9.%d" % i)
        w.ipt("-D", "INPUT", "-s", "10.9.9.9", "-m", "recent", "--set")
        check("ip filter: xtjit" in w.status(), w.status())
        check("10.9" not in w.plain("iptables-legacy", "-S").stdout, "left in the kernel's table")
    check_counts(w, w.stop_traffic(), "moved")
    check("bpf" not in w.save(), "a gate was left")


@test
def killed_while_moving(w):
    """the same, and the helper is killed meanwhile"""
    counting_rules(w)
    w.traffic()
    updates_and_kills(w, ["iptables-legacy -%s INPUT -s 10.9.9.9 -m recent --set" % c
                          for c in "AD" * 20])
    check_counts(w, w.stop_traffic(), "moved")
    check("bpf" not in w.save(), "a gate was left")
    check("ip filter: xtjit" in w.status(), w.status())


@test
def nat_is_the_kernels(w):
    """nat goes to the kernel, the rest stays; names list both"""
    counting_rules(w)
    w.ipt("-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/8", "-j", "MASQUERADE")
    check("MASQUERADE" in w.plain("iptables-legacy", "-t", "nat", "-S").stdout, "not there")
    st = w.status()
    check("ip nat: kernel" in st and "ip filter: xtjit" in st, st)
    names = w.ipt("/proc/net/ip_tables_names", cmd="cat").stdout.split()
    check(names == ["nat", "filter"], "names: %s" % names)
    both = w.ipt(cmd="iptables-legacy-save").stdout
    check("*nat" in both and "*filter" in both, both)
    r = w.ipt("-t", "nat", "-F", env={"XTJIT_FALLBACK": "refuse"}, ok=False)
    check(r.returncode != 0 and "nat" in r.stderr, "refuse: " + r.stderr)
    w.ipt("-t", "nat", "-F")


@test
def adopt_and_release(w):
    """a table with rules of its own stays the kernel's until adopt, and goes back by release"""
    w.plain("iptables-legacy", "-P", "FORWARD", "DROP")
    w.plain("iptables-legacy", "-A", "OUTPUT", "-d", "127.0.0.1", "-p", "udp", "--dport", "9")
    w.plain("iptables-legacy", "-A", "INPUT", "-d", "127.0.0.1", "-p", "udp", "--dport", "9",
            "-j", "DROP")
    w.traffic()
    w.ipt("-A", "INPUT", "-s", "10.0.0.7")
    check("ip filter: kernel" in w.status(), w.status())
    for _ in range(3):
        w.xtjit("adopt", "filter")
        check("ip filter: xtjit" in w.status(), w.status())
        check("10.0.0.7" not in w.plain("iptables-legacy", "-S").stdout, "still in the kernel's")
        w.ipt("-A", "INPUT", "-s", "10.0.0.8")
        w.xtjit("release", "filter")
        check("ip filter: kernel" in w.status(), w.status())
        w.ipt("-D", "INPUT", "-s", "10.0.0.8")
        check("ip filter: kernel" in w.status(), "not sticky: " + w.status())
    check_counts(w, w.stop_traffic(), "adopt, release")
    check("-P FORWARD DROP" in w.ipt("-S").stdout, "policy lost")


@test
def namespace_gone(w):
    """with the namespace goes all that the helper had of it"""
    counting_rules(w)
    w.ipt("-t", "raw", "-A", "PREROUTING", "-s", "1.2.3.4", "-j", "DROP")
    check(len(w.pins()) >= 1, "nothing pinned")
    run(["ip", "netns", "del", w.ns])
    for _ in range(80):
        if not w.pins():
            break
        time.sleep(0.1)
    check(not w.pins(), "still pinned: %s" % w.pins())
    check(not os.listdir(w.dir + "/h.d/netns"), "still mounted")
    w.new_ns()


def bpf_objects():
    n = {}
    for kind in ("map", "prog", "link"):
        n[kind] = sum(1 for l in run(["bpftool", kind, "list"]).stdout.splitlines()
                      if re.match(r"\d+: ", l))
    return n


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % pid).read()).group(1))


@test
def no_leaks(w):
    """200 updates leave no fd, map, program, pin or memory behind"""
    counting_rules(w)

    def updates(n):
        for i in range(n):
            w.ipt("-A" if i % 2 == 0 else "-D", "FORWARD", "-s", "10.0.0.5", "-m", "limit",
                  "--limit", "5/s", "-j", "DROP")
        for i in range(4):
            w.ipt("-A" if i % 2 == 0 else "-D", "FORWARD", "-m", "recent", "--set")
        time.sleep(0.3)
        fds = len(os.listdir("/proc/%d/fd" % w.helper.pid))
        maps = sum(1 for _ in open("/proc/%d/maps" % w.helper.pid))
        pins = int(run(["sh", "-c", "find %s | wc -l" % w.root()]).stdout)
        return bpf_objects(), fds, maps, pins, resident(w.helper.pid)

    a = updates(40)
    b = updates(200)
    # other tests may run beside us: but not make 100 of them
    check(all(b[0][k] - a[0][k] < 100 for k in a[0]), "%s, then %s" % (a[0], b[0]))
    check(a[1] == b[1] and a[3] == b[3] and abs(a[2] - b[2]) < 4,
          "fds, mappings, pins: %s, then %s" % (a[1:4], b[1:4]))
    check(b[4] - a[4] < 400, "memory grew from %d to %d kB" % (a[4], b[4]))


@test
def early_devices(w):
    """the early stage follows devices, modes and tables"""
    w.plain("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
    w.ipt("-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP")
    st = w.status()
    check(re.search(r"early va: (XDP|TC)", st), st)
    w.plain("ip", "link", "add", "vc", "type", "veth", "peer", "name", "vd")
    w.plain("ip", "link", "add", "br0", "type", "bridge")
    w.plain("ip", "link", "set", "va", "master", "br0")
    time.sleep(0.3)
    st = w.status()
    check("early vc: " in st and "early br0: " in st and "early va: " not in st, st)
    w.kill()
    w.start()
    st2 = w.status()
    check("early vc: " in st2 and "early va: " not in st2, st2)
    w.plain("ip", "link", "del", "vc")
    time.sleep(0.3)
    check("early vc: " not in w.status(), w.status())
    w.ipt("-A", "INPUT", "-s", "10.0.0.2", "-j", "DROP", env={"XTJIT_EARLY": "off"})
    st = w.status()
    check("early vb: " not in st, st)
    links = w.plain("ip", "-d", "link").stdout + w.plain("tc", "qdisc").stdout
    check("xdp" not in links and "clsact" not in links, links)
    w.ipt("-A", "INPUT", "-s", "10.0.0.3", "-j", "DROP", env={"XTJIT_EARLY": "on"})
    check("early vb: " in w.status(), w.status())
    w.ipt("-F")
    check("early vb: " not in w.status(), "nothing to drop: " + w.status())


def main():
    args = sys.argv[1:]
    only = args[args.index("-k") + 1] if "-k" in args else ""
    if os.geteuid():
        print("1..0 # SKIP needs root")
        return 4
    tests = [t for t in TESTS if only in t.__name__]
    print("1..%d" % len(tests), flush=True)
    bad = 0
    for i, t in enumerate(tests, 1):
        w = None
        try:
            w = World()
            t(w)
            print("ok %d - %s" % (i, t.__doc__), flush=True)
        except (Failed, subprocess.TimeoutExpired, OSError) as e:
            bad += 1
            print("not ok %d - %s" % (i, t.__doc__))
            for line in ("%s: %s" % (type(e).__name__, e)).splitlines():
                print("# " + line, flush=True)
            if w:
                print("# log: " + w.log().replace("\n", "\n# "), flush=True)
        finally:
            if w:
                w.close()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
The commands of iptables through the shim and the helper, and the bare protocol: what
makes no sense, what is asked twice.
"""
import array
import glob
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import bpfsys
import proto
from proto import DUMP, GET, GET_ENTRIES, GET_INFO, PROC, SET, SET_ADD, SET_REPLACE
from world import BUILD, Failed, check, counting_rules, main, run, test


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
def names(w):
    """a socket's name has up to 107 bytes; with a longer one nothing is begun"""
    longest = w.dir + "/" + "n" * (106 - len(w.dir))
    p = subprocess.Popen([BUILD + "/xtjitd", "--socket", longest])
    try:
        for _ in range(200):
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(longest)
                break
            except OSError:
                time.sleep(0.02)
        else:
            check(False, "nobody listens at a name of 107 bytes")
    finally:
        p.terminate()
        check(p.wait(10) == 0, "SIGTERM: not a clean exit")
        run(["umount", longest + ".d/netns"])
    r = run([BUILD + "/xtjitd", "--socket", longest + "n"])
    check(r.returncode == 1 and "at most 107 bytes" in r.stderr, "108 bytes: " + r.stderr)
    check(not [f for f in os.listdir(w.dir) if f.startswith("n" * (107 - len(w.dir)))],
          "108 bytes: something is left")


@test
def bad_peers(w):
    """what makes no sense is refused, and the helper lives on"""
    good = proto.header(GET, 84, GET_INFO)
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
        check(proto.reply(s)[1] == -9, "no namespace: accepted")
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


def restore(w, n):
    rules = "".join("-A INPUT -s 10.1.%d.%d/32 -j DROP\n" % (i >> 8, i & 255) for i in range(n))
    w.ipt(cmd="iptables-legacy-restore",
          stdin="*filter\n:INPUT ACCEPT [0:0]\n%sCOMMIT\n" % rules)


def requests(w):
    return int(re.search(r"requests (\d+)", w.status()).group(1))


def pinned_blob(w):
    """An fd of the entries of the ruleset in force."""
    gens = glob.glob(w.root() + "/*/ip-filter/gen-*/blob")
    return bpfsys.pinned(max(gens, key=lambda p: int(p.split("/")[-2][4:])))


def blob_map(w):
    fd = pinned_blob(w)
    try:
        with open("/proc/self/fdinfo/%d" % fd) as f:
            return re.search(r"map_id:\s*(\d+)", f.read()).group(1)
    finally:
        os.close(fd)


@test
def memory_is_used_again(w):
    """memory that kept an earlier ruleset keeps a later one, and nothing of the earlier"""
    for n in (1000, 5000):		# the one is kept until it is dropped, the other shed
        restore(w, n)
        want, maps = w.ipt("-S").stdout, []
        for i in range(6):
            # as long as the others, or a page longer
            new = ["-A", "INPUT", "-s", "10.2.0.%d/32" % i] + \
                ["-m", "comment", "--comment", "x" * 250] * (i == 3) + ["-j", "DROP"]
            w.ipt(*new)
            want += " ".join(new) + "\n"
            maps.append(blob_map(w))
            check(w.ipt("-S").stdout == want, "%d: other rules" % i)
        check(len(set(maps)) < len(maps), "%d rules: always another map" % n)
        w.kill()
        w.start()
        check(w.ipt("-S").stdout == want, "other rules by another helper")
        w.ipt("-D", "INPUT", "-s", "10.2.0.5", "-j", "DROP")
        check(w.ipt("-S").stdout == want.replace(" ".join(new) + "\n", ""), "it does not go on")


@test
def large_tables_are_read_in_place(w):
    """entries of a large table are read where the helper has them, and not written there"""
    n = 30000			# 4 MB and more
    restore(w, n)
    for i in range(3):
        w.ipt("-A", "INPUT", "-s", "10.2.0.%d" % i, "-j", "DROP")
        before = requests(w)
        saved = w.ipt("-S").stdout
        check(requests(w) - before == 3, "more than GET_INFO, the entries, and status")
        check(saved.count("-A INPUT") == n + 1 + i and "10.2.0.%d" % i in saved, "not all rules")
    w.kill()
    w.start()
    check(w.ipt("-S").stdout == saved, "other rules by another helper")
    w.ipt("-D", "INPUT", "-s", "10.2.0.2", "-j", "DROP")
    check(w.ipt("-S").stdout.count("-A INPUT") == n + 2, "the other helper does not go on")
    fd = pinned_blob(w)
    try:
        mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ).close()
        try:
            mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).close()
            raise Failed("it can be written to")
        except PermissionError:
            pass
    finally:
        os.close(fd)


sys.exit(main())

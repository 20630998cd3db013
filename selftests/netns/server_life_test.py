#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
What the helper keeps: it goes with its namespace, does not grow, and follows devices.
"""
import os
import re
import signal
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import bpfsys
import proto
from world import check, counting_rules, main, run, test


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

    time.sleep(2)		# what the helper looks after once a second, it has looked after
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


@test
def early_after_a_burst(w):
    """of rulesets that follow each other fast the early stage has the last, a little later"""
    w.plain("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
    w.ipt("-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP")
    w.status()
    array = bpfsys.pinned("%s/%s/early-xdp" % (w.root(), w.pins()[0]))

    def program():
        return struct.unpack("I", bpfsys.lookup(array, b"\0\0\0\0", 4))[0]

    def burst():
        """The programs that were in force, in turn."""
        arg, seen = w.replace_arg(), [program()]
        for _ in range(40):
            check(w.call(proto.SET, arg, proto.SET_REPLACE)[0] == 0, "REPLACE")
            seen.append(program())
        return seen
    seen = burst()
    check(len(set(seen)) < 12, "built for each: %s" % seen)
    end = time.monotonic() + 2
    while program() in seen and time.monotonic() < end:
        time.sleep(0.02)
    check(program() not in seen, "not built when it is quiet")
    seen = burst()
    check("early ip: drops" in w.status() and program() not in seen, "status does not wait for it")
    for sig in signal.SIGTERM, signal.SIGKILL:
        seen = burst()
        w.kill(sig)
        check(sig == signal.SIGKILL or program() not in seen, "it is left off for good")
        w.start()
        check("early ip: drops" in w.status() and program() not in seen, "not by the next helper")
    os.close(array)


sys.exit(main())

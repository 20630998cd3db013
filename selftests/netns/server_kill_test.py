#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
The helper is killed, and another takes over: from what is pinned, under traffic.
"""
import mmap
import os
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import bpfsys
from dut import BUILD, alive, wait
from world import check, check_counts, counting_rules, main, run, test


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
    # it listens until it has ended, and the next one would leave it the place
    for pid in run(["pgrep", "-f", "^" + BUILD + "/xtjitd --socket " + w.sock]).stdout.split():
        os.kill(int(pid), signal.SIGTERM)
        check(wait(lambda: not alive(pid), 10), "SIGTERM does not end it")
    w.start()
    check(w.save() == before, w.save())


@test
def recovery(w):
    """a new helper finds rules, counters, hooks and numbers as they were"""
    counting_rules(w)
    w.ipt("-A", "FORWARD", "-p", "tcp", "-m", "limit", "--limit", "1/s", "-j", "DROP",
          cmd="ip6tables-legacy")
    w.traffic()
    before = [l for l in w.status().splitlines() if not l.startswith(("helper", "  req", "  log", "  last"))]
    check(w.kill(signal.SIGTERM) == 0, "SIGTERM: not a clean exit")
    time.sleep(0.1)
    w.start()
    after = [l for l in w.status().splitlines() if not l.startswith(("helper", "  req", "  log", "  last"))]
    check(before == after, "status differs: %s %s" % (before, after))
    w.ipt("-A", "INPUT", "-s", "10.0.0.9")
    check_counts(w, w.stop_traffic(), "recovery")
    check("-m limit" in w.save(cmd="ip6tables-legacy-save"), "ip6 rule lost")


def sends(w, to):
    """A datagram of ours is not dropped on its way out."""
    code = "import socket; socket.socket(2, 2).sendto(b'x', ('%s', 9))" % to
    return w.plain("python3", "-c", code).returncode == 0


@test
def another_version(w):
    """what another version has pinned stays in force until there is a new ruleset"""
    w.plain("ip", "link", "set", "lo", "up")
    w.ipt("-A", "OUTPUT", "-d", "127.0.0.8", "-j", "DROP")
    check(sends(w, "127.0.0.9") and not sends(w, "127.0.0.8"), "not in force")
    w.kill()
    table = "%s/%s/ip-filter" % (w.root(), w.pins()[0])
    for gen in [d for d in os.listdir(table) if d.startswith("gen-")]:
        fd = bpfsys.pinned("%s/%s/blob" % (table, gen))
        with mmap.mmap(fd, mmap.PAGESIZE) as m:
            m[4:8] = struct.pack("I", 999)		# struct gen_blob
        os.close(fd)
    w.start()
    check("another version of xtjit made it" in w.log(), w.log())
    check(sends(w, "127.0.0.9") and not sends(w, "127.0.0.8"), "no longer in force")
    w.ipt("-A", "OUTPUT", "-d", "127.0.0.9", "-j", "DROP")
    check(sends(w, "127.0.0.8") and not sends(w, "127.0.0.9"), "the old rules are left")
    check("ip filter: xtjit" in w.status(), w.status())


@test
def killed_while_moving(w):
    """a table moves to ip_tables and back, and the helper is killed: every packet once"""
    counting_rules(w)
    w.traffic()
    updates_and_kills(w, ["iptables-legacy -%s INPUT -s 10.9.9.9 -m recent --set" % c
                          for c in "AD" * 20])
    check_counts(w, w.stop_traffic(), "moved")
    check("bpf" not in w.save(), "a gate was left")
    check("ip filter: xtjit" in w.status(), w.status())


sys.exit(main())

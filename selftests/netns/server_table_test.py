#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 300
"""
Whose a table is: it moves to ip_tables and back under traffic, by rules and by order.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from world import check, check_counts, counting_rules, main, test


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


sys.exit(main())

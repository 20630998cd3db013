#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The shim, its client and `xtjit run`, against a helper that hands everything
on to the kernel's own ip_tables: all must look as without them.

Needs root. XTJIT_BUILD names the directory of what was built [build]."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
import netns  # noqa: E402
import tap  # noqa: E402

BUILD = os.path.abspath(os.environ.get('XTJIT_BUILD', 'build'))
XTJIT = f'{BUILD}/xtjit'
SHIM = f'{BUILD}/libxtjit-shim.so'
FAKE = f'{HERE}/fake_helper.py'
PROBE = f'{HERE}/shim_probe.py'


class World:
    """Two namespaces, `plain` and `dut`, and a fake helper's place."""

    def __init__(self):
        self.plain, self.dut = netns.Netns('plain'), netns.Netns('dut')
        self.dir = tempfile.mkdtemp(prefix='xtjit-shim-test.')
        self.sock = f'{self.dir}/sock'
        self.env = dict(os.environ, XTJIT_SOCKET=self.sock, XTJIT_HELPER=FAKE, LC_ALL='C')
        for name in ('LD_PRELOAD', 'XTJIT_EARLY', 'XTJIT_FALLBACK'):
            self.env.pop(name, None)

    def sh(self, where, script, env=None, **kw):
        env = dict(self.env, **(env or {}))
        cmd = ['sh', '-c', script]
        if where is self.dut:
            cmd = [XTJIT, 'run', '--'] + cmd
        with where:
            r = subprocess.run(cmd, capture_output=True, text=True, env=env, timeout=60, **kw)
        return r

    def preload(self, script, env=None):
        """As `xtjit run`, but starts nothing before."""
        env = dict(self.env, LD_PRELOAD=SHIM, **(env or {}))
        env = {k: v for k, v in env.items() if v is not None}
        with self.dut:
            return subprocess.run(['sh', '-c', script], capture_output=True, text=True,
                                  env=env, timeout=60)

    def put(self, name, text):
        with open(f'{self.sock}.{name}', 'w') as f:
            f.write(text)

    def drop(self, name):
        try:
            os.unlink(f'{self.sock}.{name}')
        except FileNotFoundError:
            pass

    def lines(self, name):
        try:
            with open(f'{self.sock}.{name}') as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def pids(self):
        """Of the helpers that live."""
        out = []
        for pid in self.lines('pid'):
            try:
                with open(f'/proc/{pid}/cmdline') as f:
                    if self.sock in f.read():
                        out.append(int(pid))
            except FileNotFoundError:
                pass
        return out

    def kill(self):
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        for _ in range(200):
            if not self.pids():
                return
            time.sleep(0.01)

    def close(self):
        self.kill()
        self.plain.delete()
        self.dut.delete()
        shutil.rmtree(self.dir)


def clean(text):
    """Without the date of iptables-save."""
    return re.sub(r'(?m)^# (Generated|Completed).*\n', '', text)


def same(t, w, name, script):
    """@script must do the same in both namespaces."""
    a, b = w.sh(w.plain, script), w.sh(w.dut, script)
    want = (a.returncode, clean(a.stdout), clean(a.stderr))
    return t.eq((b.returncode, clean(b.stdout), clean(b.stderr)), want, name)


RESTORE = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [5:600]
:OUTPUT ACCEPT [0:0]
:web - [0:0]
[10:1000] -A INPUT -p tcp -m multiport --dports 80,443 -j web
[7:70] -A INPUT -s {net} -m comment --comment "two words" -j DROP
[1:2] -A web -m limit --limit 5/min -j LOG --log-prefix "web: "
[3:4] -A web -j RETURN
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
[8:9] -A FORWARD -j MARK --set-mark 7
COMMIT
"""


def iptables(t, w, ip, net):
    def do(name, script):
        return same(t, w, f'{ip}: {name}', script.replace('IPT', f'{ip}-legacy'))

    do('-A -I -N -P', f'IPT -A INPUT -s {net} -j DROP; IPT -N user; IPT -A user -j RETURN; '
       'IPT -I FORWARD 1 -p tcp --dport 22 -j user; IPT -P OUTPUT DROP; IPT -S')
    do('-C -R -E -D', f'IPT -C INPUT -s {net} -j DROP; IPT -R INPUT 1 -p udp -j ACCEPT; '
       'IPT -E user other; IPT -D FORWARD 1; IPT -S; IPT -C INPUT -p sctp -j DROP')
    do('-L, with counters and numbers', 'IPT -L -n -v -x --line-numbers; IPT -t mangle -nL')
    do('-F -X -P', 'IPT -F; IPT -X; IPT -P OUTPUT ACCEPT; IPT -S')
    text = RESTORE.format(net=net)
    do('restore -c, save -c', f"IPT-restore -c <<'X'\n{text}X\nIPT-save -c; IPT -S -v")
    do('restore -n', "IPT-restore -n <<'X'\n*filter\n-A INPUT -j ACCEPT\nCOMMIT\nX\nIPT-save -c")
    do('-Z, one chain and all', 'IPT -Z FORWARD; IPT-save -c; IPT -Z; IPT-save -c')
    do('errors', 'IPT -A nochain -j DROP; IPT -D INPUT 77; IPT -t nosuch -S; '
       'IPT -A FORWARD -j nowhere; IPT -X web; echo $?')
    do('the rules went into this namespace', 'LD_PRELOAD= IPT-save -c')


def proc_files(t, w):
    dirs = ['/proc/net', '/proc/self/net', '/proc/thread-self/net']
    names = ['ip_tables_names', 'ip_tables_matches', 'ip6_tables_targets']
    for d in dirs:
        same(t, w, f'cat {d}', ''.join(f'cat {d}/{n};' for n in names))
    same(t, w, 'while read < file',
         'while read -r x; do echo "<$x>"; done < /proc/net/ip_tables_names')
    same(t, w, 'relative path',
         'cd /proc/net && cat ip_tables_names; cd ..; cat net/ip6_tables_names')
    same(t, w, 'grep -r, head, test',
         'grep -c . /proc/net/ip_tables_targets; head -c 3 /proc/net/ip_tables_names; '
         'for o in e r s f w d; do test -$o /proc/net/ip_tables_names; echo $?; done')
    same(t, w, 'python', 'python3 -c "print(open(\'/proc/net/ip6_tables_names\').read())"')
    same(t, w, 'not to be written, no directory',
         'python3 -c "\nimport os\nfor f in os.O_DIRECTORY, os.O_PATH|os.O_DIRECTORY:\n'
         ' try: os.open(\'/proc/net/ip_tables_names\', f); print(0)\n'
         ' except OSError as e: print(e)"')
    w.drop('log')
    same(t, w, 'files of that name elsewhere',
         f'cd {w.dir}; echo x > ip_tables_names; cat ip_tables_names; cat nodir/ip_tables_names; '
         'rm ip_tables_names; cat ip_tables_names; test -e ip_tables_names; echo $?')
    t.eq(w.lines('log'), [], 'the helper is not asked about those')
    w.put('note', '')
    w.sh(w.dut, 'cat /proc/net/ip_tables_names')
    t.ok('op=3' in ''.join(w.lines('log')), 'it is about /proc/net')


def probe(t, w, what):
    """shim_probe.py WHAT prints its findings, then "ok"."""
    want, got = (w.sh(where, f'python3 {PROBE} {what}') for where in (w.plain, w.dut))
    t.ok(want.stdout.endswith('\nok\n'), f'probe: {what}: without the shim', want.stderr)
    t.eq((got.stdout, got.stderr), (want.stdout, ''), f'probe: {what}')


def probes(t, w):
    probe(t, w, 'errnos')
    probe(t, w, 'options')
    w.drop('log')
    probe(t, w, 'others')
    t.eq(w.lines('log'), [], 'other options are not the helper\'s')
    for what in ('fds', 'children', 'threads'):
        r = w.sh(w.dut, f'python3 {PROBE} {what}')
        t.eq((r.stdout, r.stderr), ('ok\n', ''), f'probe: {what}')


def environment(t, w):
    w.drop('log')
    r = w.sh(w.dut, 'iptables-legacy -S > /dev/null')
    inode = os.stat(f'/run/netns/{w.dut.name}').st_ino
    log = w.lines('log')
    t.ok(log and all(f'netns={inode}' in x for x in log), 'the namespace goes along')
    t.ok(all('early=0 fallback=0' in x for x in log), 'no wishes by default')
    w.drop('log')
    w.sh(w.dut, 'iptables-legacy -S > /dev/null', env={'XTJIT_EARLY': 'eager',
                                                        'XTJIT_FALLBACK': 'refuse'})
    t.ok('early=3 fallback=2' in w.lines('log')[0], 'XTJIT_EARLY, XTJIT_FALLBACK go along')
    w.drop('log')
    w.sh(w.dut, f'{XTJIT} run --early=off --fallback=kernel iptables-legacy -S > /dev/null')
    t.ok('early=1 fallback=1' in w.lines('log')[0], '--early, --fallback')
    w.drop('log')
    w.sh(w.dut, f'ip netns exec {w.plain.name} iptables-legacy -S > /dev/null')
    inode = os.stat(f'/run/netns/{w.plain.name}').st_ino
    t.ok(f'netns={inode}' in w.lines('log')[0], 'under ip netns exec: that namespace')
    r = w.sh(w.dut, 'echo $LD_PRELOAD', env={'LD_PRELOAD': 'libdl.so.2'})
    t.eq(r.stdout, f'{SHIM}:libdl.so.2\n', 'an LD_PRELOAD that is there stays')
    r = w.sh(w.dut, f'{XTJIT} run sh -c \'echo $LD_PRELOAD\'')
    t.eq(r.stdout, f'{SHIM}\n', 'once is enough')


def run_command(t, w):
    def code(*args, env=None):
        return subprocess.run([XTJIT, *args], capture_output=True, text=True,
                              env=dict(w.env, **(env or {})), timeout=60)

    t.eq(code('run', '--', 'sh', '-c', 'exit 7').returncode, 7, 'run: the command\'s status')
    t.eq(code('run', '--', '/nonexistent').returncode, 127, 'run: no such command')
    t.eq(code('run', '/etc/passwd').returncode, 126, 'run: not executable')
    t.eq(code('run').returncode, 2, 'run: no command')
    for bad in '--early=sometimes', '--fallback=nft', '--nosuch':
        r = code('run', bad, 'true')
        t.ok(r.returncode == 2 and r.stderr, f'run {bad}')
    r = code('run', 'true', env={'XTJIT_EARLY': 'x'})
    t.ok(r.returncode == 2 and 'XTJIT_EARLY' in r.stderr, 'run: XTJIT_EARLY=x')
    r = code('run', 'true', env={'XTJIT_HELPER': '/nonexistent', 'XTJIT_SOCKET': w.dir + '/no'})
    t.ok(r.returncode == 125 and '/nonexistent' in r.stderr and w.dir + '/no' in r.stderr,
         'run: no helper')
    for cmd in ('run', 'status', 'adopt', 'release', 'dump', 'check'):
        r = code(cmd, '--help')
        t.ok(r.returncode == 0 and r.stdout.startswith(f'Usage: xtjit {cmd}') and not r.stderr,
             f'{cmd} --help')
    t.eq(code('nosuch').returncode, 2, 'no such subcommand')


def ask_commands(t, w):
    def go(*args, **env):
        with w.dut:
            return subprocess.run([XTJIT, *args], capture_output=True, text=True,
                                  env=dict(w.env, **env), timeout=60)

    dump = b'\1\0\0\0\1\0\0\0filter' + bytes(26)
    for args, want in (
            (['status'], (4, 0, b'')), (['status', '-4'], (4, 2, b'')),
            (['adopt'], (5, 0, b'')), (['adopt', '-6', 'filter'], (5, 10, b'filter')),
            (['release', 'raw'], (6, 0, b'raw')), (['dump', '--ir'], (7, 0, bytes(40))),
            (['dump', '--bpf', '--early', '-4', 'filter'], (7, 2, dump))):
        w.drop('log')
        r = go(*args)
        t.eq((r.returncode, r.stdout, r.stderr), (0, 'op=%d family=%d %r\n' % want, ''),
             ' '.join(args))
    inode = os.stat(f'/run/netns/{w.dut.name}').st_ino
    t.ok(f'netns={inode}' in w.lines('log')[0], 'in the current namespace')
    for args in (['dump'], ['dump', '--ir', '--bpf'], ['adopt', 'nosuch'], ['status', 'filter'],
                 ['release', 'raw', 'nat'], ['status', '--early']):
        r = go(*args)
        t.ok(r.returncode == 2 and r.stderr and not r.stdout, 'usage: ' + ' '.join(args))
    w.put('note', 'by the way')
    r = go('status')
    t.eq((r.returncode, r.stderr), (0, 'by the way\n'), 'status: a note')
    w.drop('note')
    w.put('refuse_op', 'ENOENT')
    r = go('adopt')
    t.eq((r.returncode, r.stderr), (1, 'xtjit: No such file or directory\n'), 'adopt: refused')
    w.drop('refuse_op')
    r = go('status', XTJIT_HELPER='/nonexistent', XTJIT_SOCKET=w.dir + '/none')
    t.ok(r.returncode == 3 and w.dir + '/none' in r.stderr, 'status: no helper', r.stderr)


def notes(t, w):
    w.put('refuse', 'EOPNOTSUPP filter INPUT rule 1: a note')
    r = w.sh(w.dut, 'iptables-legacy -A INPUT -s 9.9.9.9')
    w.drop('refuse')
    t.ok(r.returncode != 0 and r.stderr.startswith('filter INPUT rule 1: a note\n'),
         'a refusal and its note', r.stderr)
    t.eq(r.stderr.count('a note'), 1, 'the note comes once')
    t.eq(w.sh(w.dut, 'iptables-legacy -C INPUT -s 9.9.9.9').returncode, 1, 'nothing was done')
    w.put('note', 'as a matter of fact')
    r = w.sh(w.dut, 'cat /proc/net/ip_tables_names > /dev/null')
    t.eq((r.returncode, r.stderr), (0, 'as a matter of fact\n'), 'a note on success')
    r = w.sh(w.dut, 'cat /proc/net/ip_tables_names 2>&- | grep -c filter')
    t.eq((r.returncode, r.stdout, r.stderr), (0, '1\n', ''), 'no stderr, no note')
    r = w.sh(w.dut, 'exec 3>&1; { { cat /proc/net/ip_tables_names; echo $? >&3; } '
             '2>&1 >/dev/null | true; } 2>/dev/null; sleep 0.1')
    t.eq(r.stdout, '0\n', 'stderr is a broken pipe')
    w.drop('note')


def connections(t, w):
    def run(script):
        w.sh(w.dut, 'iptables-legacy -F')
        w.drop('log')
        r = w.sh(w.dut, script)
        log = w.lines('log')
        return r, len(log), len({x.split('conn=')[1] for x in log})
    r, asked, conns = run('iptables-legacy -A INPUT -j DROP')
    t.eq((r.returncode, r.stderr, asked, conns), (0, '', 4, 1), 'iptables: one connection')
    w.put('once', '')
    r, _, conns = run('iptables-legacy -A INPUT -j DROP; iptables-legacy -S INPUT')
    t.eq((r.returncode, r.stdout, r.stderr), (0, '-P INPUT ACCEPT\n-A INPUT -j DROP\n', ''),
         'the helper ends each connection')
    t.eq(conns, 6, 'the helper ends each connection: as many as requests')
    w.drop('once')
    r, asked, conns = run(f'python3 {PROBE} fds')
    t.eq((r.stderr, conns), ('', asked), 'others: a connection for each request')


def breaks(t, w):
    for fate in ('before', 'after', 'half'):
        w.sh(w.dut, 'iptables-legacy -F')
        w.drop('log')
        w.put('die', fate)
        r = w.sh(w.dut, 'iptables-legacy -A INPUT -j DROP && iptables-legacy -S INPUT')
        t.eq((r.returncode, r.stdout, r.stderr), (0, '-P INPUT ACCEPT\n-A INPUT -j DROP\n', ''),
             f'helper killed: {fate}')
        ids = re.findall(r'id=(\w+)', '\n'.join(w.lines('log')))
        t.eq(len(ids) - len(set(ids)), 1, f'helper killed: {fate}: the same id again')
    w.sh(w.dut, 'iptables-legacy -F')
    script = ('iptables-legacy-restore -n <<X\n*filter\n-A INPUT -j ACCEPT\nCOMMIT\nX\n'
              'iptables-legacy -S INPUT')
    for _ in range(3):
        w.kill()
        r = w.sh(w.dut, script)
        t.eq((r.returncode, r.stderr), (0, ''), 'no helper: the next one is started')
    t.eq(r.stdout.count('-A INPUT -j ACCEPT'), 3, 'each rule is there once')


def several_at_once(t, w):
    w.kill()
    n = 12
    r = w.preload('for i in 1 2 3 4 5 6 7 8 9 10 11 12; do '
                  'iptables-legacy -w 30 -A FORWARD -m comment --comment "$i" & done; wait; '
                  'iptables-legacy -S FORWARD')
    t.eq((r.stdout.count('--comment'), r.stderr), (n, ''), f'{n} at once, without a helper')
    t.eq(len(w.pids()), 1, 'one helper was started')


def the_helper_itself(t, w):
    w.kill()
    r = w.preload(f'exec 7>{w.dir}/stray; trap "" CHLD INT TERM; iptables-legacy -S > /dev/null',
                  env={'XTJIT_EARLY': 'on'})
    t.eq((r.returncode, r.stderr), (0, ''), 'started by the shim, SIGCHLD ignored')
    pid, = w.pids()
    with open(f'/proc/{pid}/environ') as f:
        names = [x.split('=')[0] for x in f.read().split('\0')]
    t.eq([x for x in names if x.startswith(('LD_', 'XTJIT_'))], [],
         'nothing of ours in its environment')
    files = [os.readlink(f'/proc/{pid}/fd/{x}') for x in os.listdir(f'/proc/{pid}/fd')]
    t.ok(not any('stray' in x or 'xtables.lock' in x for x in files), 'no files of the caller',
         str(files))
    with open(f'/proc/{pid}/status') as f:
        status = f.read()
    t.eq(int(re.search(r'SigBlk:\s+(\w+)', status)[1], 16), 0, 'no signal blocked')
    ignored = int(re.search(r'SigIgn:\s+(\w+)', status)[1], 16)
    t.ok(not ignored & (1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1), 'nor ignored')
    t.eq(os.getsid(pid) != os.getsid(0), True, 'a session of its own')
    w.kill()
    r = w.preload('exec 0<&- 1>&- 2>&-; iptables-legacy -A OUTPUT -j ACCEPT; iptables-legacy -S '
                  f'OUTPUT > {w.dir}/out')
    with open(f'{w.dir}/out') as f:
        t.ok('-A OUTPUT -j ACCEPT' in f.read(), 'with stdin, stdout, stderr closed')


def unreachable(t, w):
    w.kill()
    none = {'XTJIT_HELPER': None, 'XTJIT_SOCKET': w.dir + '/none'}
    begin = time.monotonic()
    r = w.preload('iptables-legacy -S', env=none)
    t.ok(r.returncode != 0 and w.dir + '/none' in r.stderr.splitlines()[0], 'no helper', r.stderr)
    t.eq(r.stderr.count(w.dir), 1, 'said once')
    # for one that somebody else starts it would wait two seconds
    t.ok(time.monotonic() - begin < 2, 'at once')
    r = w.preload('cat /proc/net/ip_tables_names', env=none)
    t.ok(r.returncode == 1 and 'Input/output error' in r.stderr, 'nor are there files', r.stderr)
    r = w.preload('iptables-legacy-save', env=none)
    t.ok(r.returncode != 0 and r.stdout == '', 'iptables-save does not take it for "no rules"')
    w.put('broken', 'yes')
    w.drop('none')
    r = w.preload('iptables-legacy -S', env={'XTJIT_SOCKET': w.sock})
    t.ok(r.returncode != 0 and 'fake helper: broken' in r.stderr and 'did not start' in r.stderr,
         'a helper that does not start', r.stderr)
    w.drop('broken')
    w.put('log', '')


HIDE = r'''
void *dlsym(void *, const char *);
int *__errno_location(void);
char *strstr(const char *, const char *);
#define HIDE(ret, fn, args, pass) ret fn args { \
	static ret (*next) args; if (!next) next = dlsym((void *)-1, #fn); \
	if (strstr(p, "ip_tables_names")) { *__errno_location() = 2; return -1; } return next pass; }
HIDE(int, open64, (const char *p, int f, int m), (p, f, m))
HIDE(int, openat, (int d, const char *p, int f, int m), (d, p, f, m))
HIDE(int, stat64, (const char *p, void *s), (p, s))
HIDE(int, lstat64, (const char *p, void *s), (p, s))
HIDE(int, stat, (const char *p, void *s), (p, s))
HIDE(int, lstat, (const char *p, void *s), (p, s))
HIDE(int, fstatat64, (int d, const char *p, void *s, int f), (d, p, s, f))
HIDE(int, statx, (int d, const char *p, int f, unsigned m, void *s), (d, p, f, m, s))
HIDE(int, statfs64, (const char *p, void *s), (p, s))
HIDE(int, access, (const char *p, int m), (p, m))
HIDE(int, faccessat, (int d, const char *p, int m, int f), (d, p, m, f))
HIDE(int, euidaccess, (const char *p, int m), (p, m))
'''


def no_ip_tables(t, w):
    """A kernel without the files: a library after the shim hides them."""
    cc = shutil.which(os.environ.get('CC', 'cc').split()[0])
    if not cc:
        return t.skip('a kernel without ip_tables', 'no C compiler')
    with open(f'{w.dir}/hide.c', 'w') as f:
        f.write(HIDE)
    netns.run([cc, '-shared', '-fPIC', '-o', f'{w.dir}/hide.so', f'{w.dir}/hide.c'])
    look = ('for f in /proc/net/ip_tables_names /proc/net/nosuch; do for o in e r f s d; do '
            'test -$o $f; echo $?; bash -c "test -$o $f"; echo $?; /usr/bin/test -$o $f; '
            'echo $?; done; done; stat -c "%A %U %F" /proc/net/ip_tables_names; '
            'stat -f -c %T /proc/net/ip_tables_names; ')
    read = 'cat /proc/net/ip_tables_names; iptables-legacy-save'
    hidden = w.sh(w.dut, look, env={'LD_PRELOAD': w.dir + '/hide.so'})
    bare = subprocess.run(['sh', '-c', look], capture_output=True, text=True,
                          env=dict(w.env, LD_PRELOAD=w.dir + '/hide.so'))
    there = w.sh(w.plain, look)
    t.ok(bare.stdout != there.stdout, 'the files can be hidden')
    t.eq(hidden.stdout, there.stdout, 'no ip_tables: the files look as if there were')
    hidden = w.sh(w.dut, read, env={'LD_PRELOAD': w.dir + '/hide.so'})
    t.eq((clean(hidden.stdout), hidden.stderr), (clean(w.sh(w.dut, read).stdout), ''),
         'no ip_tables: they can be read')


CHECK = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:web - [0:0]
-A INPUT -s {a},{b} -p tcp -j DROP
-A INPUT -m comment --comment "-s a,b" -j web
-I INPUT 1 -j REJECT
-A OUTPUT -j ACCEPT
-A web -m set --match-set nosuchset src -j DROP
COMMIT
"""


def check(t, w):
    before = w.sh(w.plain, 'iptables-legacy-save -c').stdout
    for flag, a, b in ('-4', '10.0.0.1', '10.0.0.2'), ('-6', 'fc00::1', 'fc00::2'):
        def go(text, user=None):
            with w.plain:
                return subprocess.run([XTJIT, 'check', flag, '-'], input=text, text=True,
                                      capture_output=True, user=user, timeout=60,
                                      env=w.env, cwd='/')

        text = CHECK.format(a=a, b=b)
        r = go(text)
        got = [(' '.join(x.split()[:4]), x.rsplit('  ', 1)[1])
               for x in r.stdout.splitlines() if '  ' in x]
        t.eq((r.returncode, r.stderr, got), (1, '', [
            ('filter INPUT 1: exact', '-I INPUT 1 -j REJECT'),
            ('filter INPUT 2: early', f'-A INPUT -s {a},{b} -p tcp -j DROP'),
            ('filter INPUT 3: early', f'-A INPUT -s {a},{b} -p tcp -j DROP'),
            ('filter INPUT 4: early', '-A INPUT -m comment --comment "-s a,b" -j web'),
            ('filter OUTPUT 1: exact', '-A OUTPUT -j ACCEPT'),
            ('filter web 1: ip_tables', '-A web -m set --match-set nosuchset src -j DROP'),
        ]), f'check {flag}')
        t.eq(r.stdout.splitlines()[-1],
             'filter: 3 early, 2 exact, 1 ip_tables: the table is left to ip_tables',
             f'check {flag}: summary')
        if os.access(XTJIT, os.X_OK) and can_read_as_nobody():
            t.eq(go(text, 65534).stdout, r.stdout, f'check {flag}: as nobody')
        else:
            t.skip(f'check {flag}: as nobody', 'nobody cannot reach the build directory')
        t.eq(go('*filter\n-A INPUT -j DROP\nCOMMIT\n').returncode, 0, f'check {flag}: all compiled')
        r = go('*filter\n-A INPUT -m nosuch\nCOMMIT\n')
        t.ok(r.returncode == 2 and r.stderr and not r.stdout, f'check {flag}: no ruleset')
    after = w.sh(w.plain, 'iptables-legacy-save -c').stdout
    t.eq(clean(after), clean(before), 'check changes nothing')


def can_read_as_nobody():
    return subprocess.run(['test', '-r', SHIM, '-a', '-x', XTJIT], user=65534).returncode == 0


def main():
    t = tap.Tap()
    if os.geteuid() or not shutil.which('iptables-legacy'):
        t.skip('shim', 'needs root and iptables-legacy')
        sys.exit(t.done())
    w = World()
    try:
        for ip, net in ('iptables', '10.1.0.0/16'), ('ip6tables', 'fc00:1::/32'):
            t.guard(ip, iptables, t, w, ip, net)
        for part in (proc_files, probes, environment, run_command, ask_commands, notes,
                     connections, breaks, several_at_once, the_helper_itself, no_ip_tables,
                     unreachable, check):
            t.guard(part.__name__, part, t, w)
    finally:
        w.close()
    sys.exit(t.done())


if __name__ == '__main__':
    main()

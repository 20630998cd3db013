#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# timeout: 1200
# The VM harness itself: scripts/run-vm, on the first kernel of scripts/matrix.  The limit
# has room for the first run's downloads.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
kernel=$(head -n 1 "$root/scripts/matrix")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 143' TERM
n=0

# ok STATUS NAME: the result of the command before
ok() {
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
	fi
}

# vm NAME OPTION... -- CMD...: leaves NAME.out, NAME.err, NAME.status
vm() {
	local name=$1 options=()
	shift

	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	"$root/scripts/run-vm" --timeout 300 "${options[@]}" "$kernel" "$@" >"$tmp/$name.out" 2>"$tmp/$name.err"
	echo $? >"$tmp/$name.status"
}

# status NAME WANTED TEXT
status() {
	local got

	got=$(cat "$tmp/$1.status")
	[ "$got" -eq "$2" ]
	ok $? "$3"
	[ "$got" -eq "$2" ] || sed "s/^/# status $got: /" "$tmp/$1.err" | head -n 20
}

# has FILE LINE TEXT
has() {
	grep -qxF -- "$2" "$tmp/$1"
	ok $? "$3"
}

# Runs in the VM.
inside() {
	echo to-output
	echo to-error >/dev/stderr
	echo "$XTJIT_VM in $PWD"
	uname -r
	modprobe ip_tables && iptables-legacy -S | head -n 1
	touch changed && [ -e changed ] && echo changed
	head -c 3000000 /dev/zero | tr '\0' x
	echo
	sleep 300 &
	exit 7
}

# hang LIMIT
hang() {
	local start=$SECONDS

	vm hang --timeout "$1" -- sh -c 'echo started; sleep 600'
	echo $((SECONDS - start)) >"$tmp/hang.took"
}

if ! command -v qemu-system-x86_64 >/dev/null; then
	echo "1..0 # SKIP no qemu-system-x86_64 (scripts/setup vm installs it)"
	exit 4
fi
echo 1..18

# Some at once: they must not be in one another's way.  How long the first two take says
# what time one needs to start.
{ "$root/scripts/vm-module" "$kernel" && "$root/scripts/vm-image"; } >&2
start=$SECONDS
vm result --log "$tmp/result.log" -- bash -c "$(declare -f inside); inside" &
result=$!
vm warn -- sh -c 'echo "<4>WARNING: CPU: 0 PID: 1 at harness/test.c:1 f+0x1/0x2" >/dev/kmsg'
wait $result
limit=$((2 * (SECONDS - start) + 20))
hang $limit &
vm crash -- sh -c 'echo before; sleep 3; echo c >/proc/sysrq-trigger; sleep 300' &
vm off -- sh -c 'busybox poweroff -f; sleep 300'
wait

status result 7 'the exit status of the command'
has result.out to-output 'its output'
has result.out to-error 'its output by way of /dev/stderr'
has result.out "$kernel in $root" 'the kernel asked for, in the project'
has result.out "$(cat "$root/build/vm/$kernel/release")" 'Debian'\''s release of it runs'
has result.out '-P INPUT ACCEPT' 'modules load, stock tools work'
has result.out changed 'files can be changed'
[ ! -e "$root/changed" ]
ok $? 'but not on the host'
[ "$(tail -n 1 "$tmp/result.out")" = "$(head -c 3000000 /dev/zero | tr '\0' x)" ]
ok $? 'a large output is complete, whatever is left running'
grep -q 'reboot: Power down' "$tmp/result.log"
ok $? 'the console log is kept'

status warn 120 'a kernel warning is a failure'
grep -q 'harness/test.c:1' "$tmp/warn.err"
ok $? 'and is shown'
status crash 120 'so is a panic'
has crash.out before 'with the output so far'
status off 121 'a VM that ends without a result'
status hang 124 'a command that does not end'
has hang.out started 'with the output so far'
[ "$(cat "$tmp/hang.took")" -lt $((limit + 60)) ]
ok $? 'in time'
rm -f "$root/changed"

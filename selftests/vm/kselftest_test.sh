#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
# kselftest's conventions: selftests/Makefile with the kernel's own lib.mk, a program that
# passes, one that fails, one that is skipped with a reason.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0

# has TEXT NAME: a line of the output
has() {
	n=$((n + 1))
	if grep -qxF -- "$1" "$tmp/out"; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/out" | head -n 40
	fi
}

printf '#!/bin/sh\necho "not ok 1 - no"\necho 1..1\nexit 1\n' >"$tmp/bad_test"
chmod +x "$tmp/bad_test"
XTJIT_DUT=kernel make -C "$root/selftests" --no-print-directory run_tests \
	PROGS="netns/name_test.py $tmp/bad_test" GEN_PROGS=unit/limits_test >"$tmp/out" 2>&1
where="selftests: $root/selftests:"

has "TAP version 13" "TAP"
has "1..3" "a plan"
has "ok 1 $where limits_test" "a program of TEST_GEN_PROGS passes"
has "ok 2 $where name_test.py # SKIP" "one of TEST_PROGS is skipped (status 4)"
has "# 1..0 # SKIP about the shim, and tables that move between xtjit and ip_tables" "with its reason"
has "not ok 3 $where bad_test # exit=1" "one that fails is seen"
make -C "$root/selftests" --no-print-directory emit_tests COLLECTION=xtjit >"$tmp/out" 2>&1
has "xtjit:diff_rules_test.py" "its tests are listed"
echo "1..$n"

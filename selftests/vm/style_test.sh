#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
# style_test.sh KERNEL...: the module builds for each without a warning, of the compiler's
# (W=1) or of sparse's; checkpatch --strict has nothing to say.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0

# Not wanted of a module that is built for several kernels, with a header that user space has, too.
IGNORE=LINUX_VERSION_CODE,CONSTANT_COMPARISON,BIT_MACRO,CAMELCASE
IGNORE+=,STATIC_CONST_CHAR_ARRAY	# call_usermodehelper() wants others

# ok STATUS NAME: with what is in $tmp/bad
ok() {
	n=$((n + 1))
	if [ "$1" -eq 0 ] && [ ! -s "$tmp/bad" ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/bad" | head -n 40
	fi
}

for kernel; do
	"$root/scripts/vm-module" "$kernel" C=2 CHECK=sparse >"$tmp/out" 2>&1
	status=$?
	grep -E "/module/$kernel/.*(warning|error):" "$tmp/out" >"$tmp/bad"
	[ $status -eq 0 ] || tail -n 20 "$tmp/out" >>"$tmp/bad"
	ok $status "Linux $kernel: W=1, sparse"
done

linux=$("$root/selftests/vm/sources" linux) || exit 1
echo nf_hookfn >"$tmp/types"
for f in "$root"/kernel/*.[ch]; do
	"$linux/scripts/checkpatch.pl" --strict --no-tree --terse --no-summary \
		--ignore "$IGNORE" --typedefsfile "$tmp/types" -f "$f"
done >"$tmp/bad" 2>&1
ok 0 "checkpatch --strict"
echo "1..$n"

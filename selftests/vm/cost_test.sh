#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# timeout: 600
# cost_test.sh KERNEL: vm/cost_test.py on that kernel, in a VM whose clock counts instructions.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
kernel=${1:?KERNEL}

"$root/scripts/vm-module" "$kernel" >&2 || exit 1
exec "$root/scripts/run-vm" --count --stock --timeout 500 "$kernel" -- selftests/vm/cost_test.py

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Fills DIR with valid requests for blob_fuzz, read from the kernel's ip_tables
# in a network namespace of their own.
# usage: seeds.sh BLOB_ERRNO_TEST DIR
set -eu

if [ $# -ne 2 ]; then
	echo "usage: $0 BLOB_ERRNO_TEST DIR" >&2
	exit 2
fi
mkdir -p "$2"
exec "$1" -w "$2"

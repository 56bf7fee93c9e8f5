#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Hosts with two networks of which one or both are cut, and hosts whose ranks die or stop.
. "${srcdir:-.}/tests/hosts/lib.sh"
host a b c
network 0 rail0 4 a b c
network 1 rail1 4 a b c
"$build/tests/hosts/faults" "$@" || fail "faults"
finish

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Randomised collectives on two and three hosts: shared memory inside, TCP across, over IPv4 and IPv6.
. "${srcdir:-.}/tests/hosts/lib.sh"
host a b c
network 0 rail0 4 a b c
host d e
network 1 rail1 6 d e

# run HOSTS ARG...
run() {
  echo "== $1"
  export MDL_TEST_NETNS="$1"
  shift
  "$build/tests/coll/test_coll" -l -d 100 "$@" || fail "$MDL_TEST_NETNS $*"
}
run a,b -n 2 -c 100 -s 51
run a,a,b,b -n 4 -c 100 -s 52
run a,b,b,a -n 4 -c 60 -s 53 -a
run a,b,c -n 3 -c 60 -s 54
run a,a,b,b,c,c -n 6 -c 60 -s 55 -m 20000
run d,d,e -n 3 -c 60 -s 56
MEDLEY_ALGO=hier MEDLEY_WINDOW=4096 run a,c,b,a,b -n 5 -c 40 -s 57 -m 20000
MEDLEY_DETERMINISTIC=1 run a,a,b,c -n 4 -c 40 -s 58 -m 20000
finish

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What goes wrong among several vendors' devices and hosts, on emulated runtimes: ranks that are killed, devices that fail
# or hang, calls that do not match; and mixed collectives with little shared memory, and as a user without rights.
. "${srcdir:-.}/tests/hetero/lib.sh"

# Each vendor as the victim, in the list $1.
faults() {
  for vendor in $1; do
    use_devices "$vendor:0,cuda:0,hip:0"
    MDL_TEST_VENDORS=$vendor tests/hetero/test_faults killed/$vendor failing/$vendor
    # Hangs are waited for: seconds each. What holds a stream differs in these.
    case $vendor in cuda | acl | ze) MDL_TEST_VENDORS=$vendor tests/hetero/test_faults hanging/$vendor ;; esac
  done
}
use_devices cuda:0,hip:0
MDL_TEST_VENDORS=cuda tests/hetero/test_faults never_ready/cuda mismatch
faults "$vendors"
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0
export MEDLEY_TRANSPORT=tcp
MDL_TEST_VENDORS=cuda tests/hetero/test_faults mismatch
faults "cuda hip acl"
unset MEDLEY_TRANSPORT

use_devices cuda:0,host,hip:0,cuda:0
mixed="tests/coll/test_coll -n 4 -c 40 -m 20000 -d 60"
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
  for size in 64k 1m; do
    echo "== /dev/shm of $size"
    unshare --mount sh -c "mount -t tmpfs -o size=$size,mode=1777 tmpfs /dev/shm && $mixed -s 71"
  done
else
  echo "not tried: a small /dev/shm, since nothing can be mounted"
fi
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --regid=65534 --clear-groups test -x tests/coll/test_coll 2>/dev/null; then
  echo "== as nobody"
  setpriv --reuid=65534 --regid=65534 --clear-groups $mixed -s 72
else
  echo "not tried: a user without rights, since there is no setpriv, or the user cannot read this folder"
fi

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Where the emulated runtimes are: sourced. $MEDLEY_DEVICE_PATH names a folder for each vendor. To run the same on real
# devices set MEDLEY_DEVICE_PATH, or leave it empty, and MDL_TEST_REAL=1.
set -eu
export MEDLEY_DEBUG="${MEDLEY_DEBUG-NONE}"
emul=tests/emul
vendors="cuda hip dtk musa maca tops supa tx tang sdaa acl cnrt ze"

# The ranks' devices, "cuda:0,host,hip:0", and where those vendors' runtimes are: sets MDL_TEST_DEVICES and
# MEDLEY_DEVICE_PATH.
use_devices() {
  export MDL_TEST_DEVICES="$1"
  [ -z "${MDL_TEST_REAL-}" ] || return 0
  MEDLEY_DEVICE_PATH=
  for vendor_ in $(echo "$1" | tr ',' '\n' | sed 's/:.*//' | sort -u); do
    case $vendor_ in
    host | opencl) continue ;;
    cuda) folder=cuda12 ;;
    hip) folder=hip6 ;;
    *) folder=$vendor_ ;;
    esac
    MEDLEY_DEVICE_PATH="$MEDLEY_DEVICE_PATH${MEDLEY_DEVICE_PATH:+,}$vendor_=$emul/$folder"
  done
  export MEDLEY_DEVICE_PATH
}
export MEDLEY_DEVICE_STAGING="${MEDLEY_DEVICE_STAGING-8M}" # emulated pinned memory is touched page by page


# What the emulated run-time compilers have made is used again.
export EMUL_CACHE="${EMUL_CACHE-$PWD/tests/emul/compiled}"
[ -z "$EMUL_CACHE" ] || mkdir -p "$EMUL_CACHE"

coll() { tests/coll/test_coll "$@" -d "${MDL_TEST_SECONDS:-60}"; }

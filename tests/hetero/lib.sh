# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Where the emulated runtimes are: sourced. $MEDLEY_DEVICE_PATH names a folder for each vendor. To run the same on real
# devices set MEDLEY_DEVICE_PATH, or leave it empty, and MDL_TEST_REAL=1.
set -eu
export MEDLEY_DEBUG="${MEDLEY_DEBUG-NONE}"
emul=tests/emul
[ -n "${MDL_TEST_REAL-}" ] || {
  MEDLEY_DEVICE_PATH=
  for pair in cuda=cuda12 hip=hip6 dtk=dtk musa=musa maca=maca tops=tops supa=supa tx=tx tang=tang sdaa=sdaa acl=acl \
    cnrt=cnrt ze=ze; do
    [ -d "$emul/${pair#*=}" ] || continue
    MEDLEY_DEVICE_PATH="$MEDLEY_DEVICE_PATH${MEDLEY_DEVICE_PATH:+,}${pair%%=*}=$emul/${pair#*=}"
  done
}
export MEDLEY_DEVICE_PATH
export MEDLEY_DEVICE_STAGING="${MEDLEY_DEVICE_STAGING-8M}" # emulated pinned memory is touched page by page
vendors=$(echo "$MEDLEY_DEVICE_PATH" | tr ',' '\n' | sed 's/=.*//')

coll() { tests/coll/test_coll "$@" -d "${MDL_TEST_SECONDS:-60}"; }

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A buffer on another vendor's device is an error that names both devices, on emulated runtimes.
# shellcheck source=tests/hetero/lib.sh
. "${srcdir:-.}/tests/hetero/lib.sh"
export EMUL_DEVICES=2
run() {
  use_devices "$1,$2"
  echo "a rank on $1, memory on $2"
  tests/hetero/test_foreign "$1" "$2"
}
run cuda:0 hip:1
run hip:1 cuda:0
run cuda:1 acl:1
run acl:0 cuda:1

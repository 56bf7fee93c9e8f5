#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What calls on devices' streams promise, on emulated runtimes: CUDA, HIP and both; slow streams; without words.
. "${srcdir:-.}/tests/hetero/lib.sh"

use_devices hip:0,cuda:0
tests/hetero/test_stream
use_devices cuda:0
tests/hetero/test_stream
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0
EMUL_DELAY_US=300 tests/hetero/test_stream
EMUL_FAULT=missing=cuStreamWaitValue64_v2 tests/hetero/test_stream
use_devices hip:0,cuda:0
EMUL_FAULT=nowait tests/hetero/test_stream # the calls are there, and refused
EMUL_LEAKS=2 tests/hetero/test_stream ring destroy queued

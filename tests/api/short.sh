#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A short selection, with ranks as threads, for builds with sanitizers.
set -eu
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=60s MEDLEY_TIMEOUT=60s
for transport in shm tcp; do
  export MEDLEY_TRANSPORT=$transport
  tests/api/test_comms -n 3 -t unique_ids init_all non_blocking abort_while_starting last_error shrink_abort revoke use_after_end
  tests/api/test_groups -n 3 -t mixed mixed_streams init_several many fault_in_group left_open
  tests/api/test_streams -n 3 -t
  tests/api/test_memory -n 3 -t allocate windows registration premul_rules
  tests/api/test_mismatch -n 3 -t 'count/*' 'to_all_v_*/120' messages/20000 order/20000
done

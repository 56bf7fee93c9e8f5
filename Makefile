# SPDX-License-Identifier: Apache-2.0
# Bootstrap. On a clean clone this file sets up, configures and hands over to GNUmakefile, which automake generates and
# which GNU make then prefers.
.DEFAULT_GOAL := all
.PHONY: all check setup setup-tests
%:: GNUmakefile ; @$(MAKE) --no-print-directory -f GNUmakefile $@
all: GNUmakefile ; @$(MAKE) --no-print-directory -f GNUmakefile all
check: setup-tests
	@$(MAKE) --no-print-directory GNUmakefile
	@$(MAKE) --no-print-directory -f GNUmakefile -j$$(getconf _NPROCESSORS_ONLN || echo 1) programs
	@$(MAKE) --no-print-directory -f GNUmakefile check
setup: ; @build-aux/setup
setup-tests: ; @build-aux/setup --tests
GNUmakefile: configure ; @build-aux/setup && ./configure -q $(CONFIGURE_FLAGS)
configure: configure.ac GNUmakefile.am ; @build-aux/setup && autoreconf -fi
Makefile configure.ac GNUmakefile.am: ;

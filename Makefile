# One non-recursive Makefile. `make help` names every target.
#   variant=release|debug|asan|tsan   CXX=g++|clang++-16   PREFIX= DESTDIR=
variant ?= release
CXX     := $(if $(filter default undefined,$(origin CXX)),g++,$(CXX))
CC      := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
PREFIX  ?= /usr/local
V       ?=
Q       := $(if $(V),,@)
version := 0.1.0

# Release built by g++ lands in build/; every other pair of variant and compiler has a tree of its own.
compiler := $(notdir $(lastword $(CXX)))
out := $(if $(filter release-g++,$(variant)-$(compiler)),build,build/$(variant)-$(compiler))
obj := $(out)/obj
bin := $(out)/bin
lib := $(out)/lib

daemons  := plumberd tcpd tlsd udpd
programs := $(foreach d,$(daemons) plumb,$(if $(wildcard $(d)/main.cc),$(d)))

warnings := -Wall -Wextra -Werror -Wpedantic -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers
standard := $(if $(findstring clang,$(compiler)),-std=c++2b -D__cpp_concepts=202002L -Wno-builtin-macro-redefined -Wno-macro-redefined,-std=c++23)
defines  := -D_GNU_SOURCE -DPLUMBERD_VERSION='"$(version)"' -DPLUMBERD_PREFIX='"$(PREFIX)"'
cxxflags-release := -O2 -g1 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
cxxflags-debug   := -O0 -g
# No vptr checks: each opens a pipe and lies when a test takes all descriptors away.
cxxflags-asan    := -O0 -g1 -fsanitize=address,undefined -fno-sanitize=vptr -fno-omit-frame-pointer -fno-sanitize-recover=undefined
cxxflags-tsan    := -O1 -g -fsanitize=thread
cxxflags-fuzz    := -O1 -g -fsanitize=address,undefined,fuzzer-no-link -fno-omit-frame-pointer -fno-sanitize-recover=undefined -DFUZZING
ldflags-release  := -Wl,-z,relro,-z,now -Wl,--as-needed
ldflags-debug    :=
ldflags-asan     := -fsanitize=address,undefined
ldflags-tsan     := -fsanitize=thread
ldflags-fuzz     := -fsanitize=address,undefined,fuzzer
ifeq ($(filter $(variant),release debug asan tsan fuzz),)
$(error variant=$(variant) is none of release debug asan tsan fuzz)
endif
flags := $(defines) $(warnings) $(cxxflags-$(variant)) -fPIC -fvisibility-inlines-hidden -I. -Ilibipc/include $(EXTRA)

libs-ipc      := -luv -luriparser -lfmt
libs-tlsd     := -lssl -lcrypto
libs-udpd     := -lcrypto
libs-plumb    := -lssl -lcrypto
libs-tests    := -lcriterion -lssl -lcrypto

objects   = $(patsubst %.cc,$(obj)/%.o,$(wildcard $(1)/*.cc))
parts     = $(filter-out %/main.o,$(call objects,$(1)))
ipc_objs := $(call objects,libipc/src)

.PHONY: all
all: $(addprefix $(bin)/,$(programs)) $(lib)/libipc.a $(lib)/libipc.so

$(lib)/libipc.a: $(ipc_objs)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(lib)/libipc.so: $(ipc_objs) libipc/libipc.map
	@mkdir -p $(@D)
	$(Q)$(CXX) -shared -Wl,-soname,libipc.so -Wl,--version-script=libipc/libipc.map $(ldflags-$(variant)) $(ipc_objs) $(libs-ipc) -o $@

define program_rule
$(bin)/$(1): $(call objects,$(1)) $(lib)/libipc.a
	@mkdir -p $$(@D)
	$(Q)echo "  LINK $$@"
	$(Q)$(CXX) $(ldflags-$(variant)) $$^ $(libs-$(1)) $(libs-ipc) -pthread -o $$@
endef
$(foreach p,$(programs),$(eval $(call program_rule,$(p))))

# Headers that nearly every file includes are compiled once (not under ccache, which cannot see through that). Tests
# are compiled without optimization: they are half of the sources, run once each, and wait for daemons anyway.
test_kit    := $(foreach room,unit e2e fuzz,$(call objects,tests/$(room)))
precompiles := $(if $(findstring ccache,$(CXX)),,yes)
compile      = $(CXX) $(standard) $(flags) $(if $(filter $(obj)/tests/%,$@),$(cxxflags-tests)) -MMD -MP
# g++ 12 takes precompiled parts of std::string for ours and warns of bounds that are none.
with-precompiled := -Winvalid-pch $(if $(findstring clang,$(compiler)),,-Wno-array-bounds -Wno-stringop-overflow)
cxxflags-tests := $(if $(filter release,$(variant)),-O0 -U_FORTIFY_SOURCE)
$(obj)/tests/bench/%.o: cxxflags-tests :=

$(obj)/%.hh.gch: %.hh
	@mkdir -p $(@D)
	$(Q)echo "  PCH  $@"
	$(Q)$(compile) -x c++-header $< -o $@
$(obj)/%.o: precompiled = $(obj)/tools/precompiled.hh
$(test_kit): precompiled = $(obj)/tests/precompiled.hh
$(if $(precompiles),$(test_kit): $(obj)/tests/precompiled.hh.gch)
$(if $(precompiles),$(foreach room,libipc/src $(daemons) plumb tests/bench,$(call objects,$(room))): $(obj)/tools/precompiled.hh.gch)

$(obj)/%.o: %.cc
	@mkdir -p $(@D)
	$(Q)echo "  CXX  $@"
	$(Q)$(compile) $(if $(precompiles),$(with-precompiled) -include $(precompiled)) -c $< -o $@

# --- tests: one Criterion program over the rooms of every daemon (their mains excepted) and the real binaries
test_objs := $(call objects,tests/unit) $(call objects,tests/e2e) $(call objects,tests/fuzz) $(foreach d,$(daemons) plumb,$(call parts,$(d)))
.PHONY: tests
tests: all $(bin)/tests $(bin)/ipc-c-test
$(bin)/tests: $(test_objs) $(lib)/libipc.a
	@mkdir -p $(@D)
	$(Q)echo "  LINK $@"
	$(Q)$(CXX) $(ldflags-$(variant)) $^ $(libs-tests) $(libs-ipc) -pthread -o $@

# --- the pure half of plumberd, which links without the rest: rules, routes, configuration
policy_objs := $(patsubst %,$(obj)/plumberd/%.o,$(filter config% consider document fields hidden judge match \
  nearest principals ranges report route rule% selector supposed toml_scan uri_pattern,\
  $(patsubst plumberd/%.cc,%,$(wildcard plumberd/*.cc))))

# --- fuzzing: make fuzz-rules [fuzz_args=-max_total_time=60]; findings belong into tests/fuzz/corpus/NAME
fuzz_args ?=
fuzz_names := $(patsubst tests/fuzz/%.cc,%,$(wildcard tests/fuzz/*.cc))
ifeq ($(variant),fuzz)
$(bin)/fuzz-lookup: $(call parts,plumberd)
$(bin)/fuzz-%: $(obj)/tests/fuzz/%.o $(policy_objs) $(lib)/libipc.a
	@mkdir -p $(@D)
	$(Q)echo "  LINK $@"
	$(Q)$(CXX) $(ldflags-$(variant)) $^ $(libs-ipc) -pthread -o $@
.SECONDARY: $(patsubst %,$(obj)/tests/fuzz/%.o,$(fuzz_names))
endif
.PHONY: $(addprefix fuzz-,$(fuzz_names))
$(addprefix fuzz-,$(fuzz_names)): fuzz-%:
	@$(MAKE) --no-print-directory variant=fuzz CXX=clang++-16 build/fuzz-clang++-16/bin/fuzz-$*
	@mkdir -p build/fuzz-clang++-16/corpus-$*
	build/fuzz-clang++-16/bin/fuzz-$* build/fuzz-clang++-16/corpus-$* tests/fuzz/corpus/$* $(fuzz_args)

# --- the benchmark kit: figures for people to read, no test (docs/benchmarks.md)
#   make bench [only=dial,threads,after,idle,relay,warm,udp,reload,tls] [quick=1]
only  ?=
quick ?=
bench_packages := nginx-light libnginx-mod-stream socat haproxy stunnel4 openssl ca-certificates
$(bin)/bench: $(filter-out %/judge_bench.o,$(call objects,tests/bench)) $(lib)/libipc.a
	@mkdir -p $(@D)
	$(Q)echo "  LINK $@"
	$(Q)$(CXX) $(ldflags-$(variant)) $^ $(libs-ipc) -pthread -o $@
$(bin)/tls-bench: $(call objects,tests/bench/tls) $(obj)/tests/bench/util.o $(lib)/libipc.a
	@mkdir -p $(@D)
	$(Q)echo "  LINK $@"
	$(Q)$(CXX) $(ldflags-$(variant)) $^ -lssl -lcrypto $(libs-ipc) -pthread -o $@
# what a user's program is: C, and the shared library
$(bin)/bench-once: tests/bench/tls/once.c libipc/include/ipc/ipc.h $(lib)/libipc.so
	@mkdir -p $(@D)
	$(Q)$(c_compiler) -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wpedantic $(cxxflags-$(variant)) -Ilibipc/include $< \
	  -L$(lib) -lipc -Wl,-rpath,'$$ORIGIN/../lib' -o $@
$(bin)/judge-bench: $(obj)/tests/bench/judge_bench.o $(policy_objs) $(lib)/libipc.a
	@mkdir -p $(@D)
	$(Q)echo "  LINK $@"
	$(Q)$(CXX) $(ldflags-$(variant)) $^ $(libs-ipc) -pthread -o $@
.PHONY: bench bench-peers bench-judge
bench-judge: $(bin)/judge-bench
	$(bin)/judge-bench
bench: all $(bin)/bench $(bin)/judge-bench $(bin)/tls-bench $(bin)/bench-once bench-peers $(if $(only),,bench-judge)
	tests/bench/run --bin $(bin) $(if $(only),--only $(only)) $(if $(quick),--quick)
bench-peers:
	$(Q)set -- $$(for p in $(bench_packages); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	  test $$# = 0 || { echo "installing $$*"; sudo=; test $$(id -u) = 0 || sudo=sudo; \
	    $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$$@"; }
# the C interface is used from C11, through the shared library
c_compiler := $(subst g++,gcc,$(subst clang++,clang,$(CXX)))
$(bin)/ipc-c-test: tests/e2e/capi.c libipc/include/ipc/ipc.h $(lib)/libipc.so
	@mkdir -p $(@D)
	@mkdir -p $(obj)/tests/e2e
	$(Q)$(c_compiler) -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wpedantic $(cxxflags-$(variant)) -Ilibipc/include \
	  -c $< -o $(obj)/tests/e2e/capi.o
	$(Q)$(CXX) $(ldflags-$(variant)) $(obj)/tests/e2e/capi.o -L$(lib) -lipc -Wl,-rpath,'$$ORIGIN/../lib' -o $@

# --- first contact
build_packages := g++ make libuv1-dev liburiparser-dev libssl-dev libtoml11-dev libcli11-dev libfmt-dev
demo_packages  := $(build_packages) redis-server python3
check_packages := $(build_packages) libcriterion-dev clang-16 libclang-rt-16-dev clang-format-16 llvm-16 python3 redis-server openssl openssh-client socat dnsmasq-base bind9-dnsutils \
  gnutls-bin curl nginx-light stunnel4 haproxy
need = @sh tools/need $(1)

.PHONY: demo
demo:
	$(call need,$(demo_packages))
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@tools/demo $(bin)

# --- everything that must hold: both compilers, sanitizers in one of them, the rules of the house
.PHONY: check lint
check:
	$(call need,$(check_packages))
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory -j$$(nproc) variant=asan CXX=clang++-16 tests
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@echo "== clang++-16, AddressSanitizer and UndefinedBehaviorSanitizer"
	@sh tools/run-tests build/asan-clang++-16/bin
	@echo "== g++, release"
	@sh tools/run-tests build/bin
	@$(MAKE) --no-print-directory check-ktls

# Kernel TLS for real: a Debian kernel with its tls module, in software emulation; skipped where that cannot be had.
ktls_packages := qemu-system-x86 busybox-static cpio
.PHONY: check-ktls
check-ktls: tests
	-$(call need,$(ktls_packages))
	@echo "== kernel TLS in qemu"
	@sh tools/check-ktls $(bin)

lint:
	@sh tools/lint

.PHONY: install uninstall
libexec := $(DESTDIR)$(PREFIX)/libexec/plumberd
unit    := $(DESTDIR)$(PREFIX)/lib/systemd/system/plumberd.service
pc      := $(DESTDIR)$(PREFIX)/lib/pkgconfig/libipc.pc
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include/ipc $(libexec)
	install -m 755 $(bin)/plumberd $(bin)/plumb $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(foreach d,$(filter-out plumberd plumb,$(programs)),$(bin)/$(d)) $(libexec)
	install -m 644 $(lib)/libipc.a $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(lib)/libipc.so $(DESTDIR)$(PREFIX)/lib
	install -m 644 libipc/include/ipc/* $(DESTDIR)$(PREFIX)/include/ipc
	for page in docs/man/*.[1-8]; do \
	  install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit 1; done
	install -D -m 644 tools/completion/plumb.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/plumb
	install -d $(DESTDIR)$(PREFIX)/share/doc/plumberd/examples $(dir $(unit)) $(dir $(pc))
	install -m 644 docs/*.md $(DESTDIR)$(PREFIX)/share/doc/plumberd
	install -m 644 config/*.toml $(DESTDIR)$(PREFIX)/share/doc/plumberd/examples
	sed 's|/usr/local|$(PREFIX)|' config/plumberd.service >$(unit)
	sed 's|/usr/local|$(PREFIX)|; s|^Version:.*|Version: $(version)|' libipc/libipc.pc >$(pc)
	chmod 644 $(unit) $(pc)
	$(if $(DESTDIR),,@if test $$(id -u) = 0; then ldconfig; else \
	  echo "libipc.so is found in $(PREFIX)/lib after ldconfig, or with LD_LIBRARY_PATH"; fi)

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/plumberd $(DESTDIR)$(PREFIX)/bin/plumb $(DESTDIR)$(PREFIX)/lib/libipc.a $(DESTDIR)$(PREFIX)/lib/libipc.so
	rm -rf $(libexec) $(DESTDIR)$(PREFIX)/include/ipc $(DESTDIR)$(PREFIX)/share/doc/plumberd
	rm -f $(foreach page,$(wildcard docs/man/*.[1-8]),$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/plumb $(unit) $(pc)

.PHONY: clean dist help
clean:
	rm -rf build dist

dist:
	@mkdir -p dist
	git archive --format=tar.gz --prefix=plumberd-$(version)/ -o dist/plumberd-$(version).tar.gz HEAD
	@echo dist/plumberd-$(version).tar.gz

help:
	@echo "make [TARGET] [variant=release|debug|asan|tsan] [CXX=g++|clang++-16] [PREFIX=/usr/local] [DESTDIR=] [V=1]"
	@echo
	@echo "  all        the programs in build/bin and libipc in build/lib (default)"
	@echo "  demo       install what is missing, build, and show a connection through two routers"
	@echo "  check-ktls test kernel TLS in an emulated machine (part of check)"
	@echo "  check      install what tests need, build with both compilers, lint, run every test"
	@echo "  tests      build the test program only"
	@echo "  lint       formatting, the include rule, and the other rules of CONTRIBUTING.md"
	@echo "  bench      ratios against peers and floors: only=dial,... quick=1 (docs/benchmarks.md)"
	@echo "  bench-judge  time of one verdict and of loading with 10, 1,000 and 100,000 rules"
	@echo "  fuzz-NAME  fuzz one decoder with libFuzzer until interrupted: $(patsubst tests/fuzz/%.cc,%,$(wildcard tests/fuzz/*.cc))"
	@echo "  install    into PREFIX: programs, helpers in libexec/plumberd, libipc, headers, man pages, a systemd unit"
	@echo "  uninstall  takes away what install put there"
	@echo "  clean      removes build/ and dist/"
	@echo "  dist       a source archive of HEAD in dist/"

-include $(shell find $(obj) -name '*.d' 2>/dev/null)

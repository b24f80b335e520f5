# Thin doors to meson, the tools and the tests. `make help` lists them.
.PHONY: help build run test lint tidy fuzz crash bench guests soak asan clean

help:
	@echo 'make build   build/atoll and its helpers'
	@echo 'make run     install what is missing, build, boot a Debian VM to a shell with network'
	@echo 'make test    install what is missing, build, run all tests (also under ASan and UBSan)'
	@echo 'make lint    tools/tidy and clang-format'
	@echo 'make bench   measured figures beside QEMU TCG and native, from one run'
	@echo 'make fuzz    the long runs of the CPU oracle and the fuzzers (FUZZ_SECONDS=600)'
	@echo 'make crash   100,000 states that a crash can leave of a qcow2 file (CRASH_STATES)'
	@echo 'make guests  the long runs of foreign systems'
	@echo 'make soak    boots and resets in a loop; long runs of code that changes'

build:
	@tools/setup build
	@[ -d build ] || meson setup build
	@ninja -C build

run:
	@tools/setup run
	@$(MAKE) --no-print-directory build
	@tools/run

test:
	@tools/setup test
	@tools/run_tests

lint: tidy
tidy:
	@tools/tidy
	@git ls-files 'src/*.[ch]' 'tests/*.[ch]' | grep -v _table | xargs clang-format --dry-run -Werror

asan:
	@[ -d build-asan ] || meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C build-asan

bench:
	@tools/setup bench
	@$(MAKE) --no-print-directory build
	@tests/bench/run

fuzz:
	@tools/setup test
	@$(MAKE) --no-print-directory build
	@tests/fuzz/run

crash:
	@tools/setup test
	@[ -d build ] || meson setup build
	@ninja -C build test_img_crash
	@build/test_img_crash $${CRASH_STATES:-100000} $$(od -An -N4 -tu4 /dev/urandom)

guests:
	@tools/setup test
	@$(MAKE) --no-print-directory build
	@tests/system/guests

soak:
	@tools/setup test
	@$(MAKE) --no-print-directory build
	@tests/system/soak
	@ATOLL_TEST_ROUNDS=2000 tests/system/selfmod_test.py

clean:
	rm -rf build build-asan

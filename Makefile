# optnet's build. `make help` says what there is to make.
#
# Objects live in build/<configuration>/, so that switches never mix; programs are linked at the root.

ARCH     ?= native
CXX      := $(if $(filter default undefined,$(origin CXX)),g++,$(CXX))
CXXFLAGS ?=
FUZZ_SECONDS ?= 120
FUZZ_SEED ?= 0
NVCC     ?= nvcc
CUDA_ARCH ?= sm_80
comma    := ,

# A switch is off if it is 0.
$(foreach switch,DEBUG SANITIZE CUDA COVERAGE,$(if $(filter 0,$($(switch))),$(eval override $(switch) :=)))

flags  := -std=c++20 -march=$(ARCH) -fopenmp -fno-math-errno -I. -Wall -Wextra $(if $(DEBUG),-O0 -g,-O3) $(CXXFLAGS)
libs   := -llapacke -lopenblas -lz
config := $(notdir $(lastword $(CXX)))-$(ARCH)$(if $(DEBUG),-debug)$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(CUDA),-cuda-$(CUDA_ARCH))$(if $(COVERAGE),-coverage)
ifdef SANITIZE
  flags += -g -O1 -fno-omit-frame-pointer -fsanitize=$(subst $(comma), -fsanitize=,$(SANITIZE)) -fno-sanitize-recover=all
  flags += $(if $(findstring clang,$(CXX)),,-Wno-maybe-uninitialized)  # g++ warns falsely with sanitizers
endif
ifdef COVERAGE
  flags += -O1 -g --coverage
endif
# One source for CPU and GPU: .cu files are C++ for the C++ compiler, or CUDA for nvcc.
compile_cu = $(CXX) $(flags) -x c++
ifdef CUDA
  CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v $(NVCC))))
  flags += -DOPTNET_CUDA -I$(or $(CUDA_HOME),$(error CUDA=1 needs nvcc: put it on PATH, or name it with NVCC=))/include
  libs  += -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcusolver -lcublas -lcudart
  compile_cu = $(NVCC) -ccbin $(lastword $(CXX)) -std=c++20 -arch=$(CUDA_ARCH) -Xcompiler "$(flags)"
endif

fuzz_flags := -seed=$(FUZZ_SEED) -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -print_final_stats=1

build   := build/$(config)
sources := $(filter-out $(if $(CUDA),,framework/backend_cuda.cpp),$(wildcard framework/*.cpp framework/*.cu solvers/*.cpp solvers/*.cu layers/*.cpp layers/*.cu))
objects := $(sources:%=$(build)/%.o)
library := $(build)/liboptnet.a

# A file in examples/ that ends in _train.cpp, _solve.cpp or _tour.cpp is a program; the others are their parts.
# Each in examples/small/ is one of its own.
programs := $(notdir $(basename $(wildcard examples/*_train.cpp examples/*_solve.cpp examples/*_tour.cpp)))
small    := $(notdir $(basename $(wildcard examples/small/*.cpp)))
parts    := $(patsubst %,$(build)/%.o,$(filter-out $(programs:%=examples/%.cpp),$(wildcard examples/*.cpp)))
tests    := $(patsubst %,$(build)/%.o,$(filter-out tests/fuzz_%,$(wildcard tests/*.cpp)))

all: examples bench-program $(build)/run-tests   ## the library, the examples, the benchmark and the tests
examples: $(programs) $(small)        ## the programs of examples/, linked here at the root

test: examples $(build)/run-tests         ## builds and runs all tests; TEST="[qp]" runs some
	$(build)/run-tests $(TEST)

bench: bench-program                  ## measures the QP solver on W1 to W7, and the framework: build/bench*.json
	./bench --json build/bench.json
	./bench_framework --json build/bench-framework-alone.json

bench-peers: bench-program examples   ## the same by other solvers and by PyTorch: build/bench-*.json and a picture
	python3 benchmarks/peers.py --library $(library)
	python3 benchmarks/framework_peers.py

bench-program: $(build)/bench $(build)/bench_framework
	@ln -f $(build)/bench bench
	@ln -f $(build)/bench_framework bench_framework

fuzz:                                 ## feeds the QP solver bytes as problems (clang); FUZZ_SECONDS=120 FUZZ_SEED=0
	$(MAKE) CXX=clang++ SANITIZE=fuzzer-no-link,address,undefined fuzz-qp
fuzz-qp: $(build)/fuzz-qp
	@mkdir -p build/fuzz
	$(build)/fuzz-qp build/fuzz -max_len=2048 -artifact_prefix=build/fuzz- $(fuzz_flags)

fuzz-files:                           ## feeds the readers of files bytes (clang); likewise, and FUZZ_FORMAT=csv for one of them
	$(MAKE) CXX=clang++ SANITIZE=fuzzer-no-link,address,undefined fuzz-readers
fuzz-readers: $(build)/fuzz-files
	@mkdir -p build/fuzz-files$(FUZZ_FORMAT)
	FUZZ_FORMAT=$(FUZZ_FORMAT) $(build)/fuzz-files build/fuzz-files$(FUZZ_FORMAT) -max_len=4096 -malloc_limit_mb=256 -artifact_prefix=build/fuzz-files- $(fuzz_flags)

python-venv: build/venv/bin/pip       ## NumPy and safetensors in build/venv, for the tests that exchange files with them
	$< install -q numpy safetensors
build/venv/bin/pip:
	python3 -m venv build/venv

torch-venv: python-venv               ## likewise PyTorch, for the test that exchanges models with it
	build/venv/bin/pip install -q torch packaging

docs: examples $(build)/run-tests         ## checks the code, links and equation numbers of README and docs/
	$(build)/run-tests "[docs]"

clean:                                ## removes build/ and the programs
	rm -rf build bench bench_framework $(programs) $(small)

help:                                 ## this list
	@echo "make TARGET [SWITCH=...]"; echo; echo "targets:"
	@awk -F ':.*## ' '/^[a-z-]*:.*## / { printf "  %-30s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '%s\n' "" "switches:" \
	  "  DEBUG=1                         no optimisation, debug information" \
	  "  SANITIZE=address,undefined      run-time checks by the compiler's sanitizers" \
	  "  CUDA=1                          with the GPU (nvcc, cuBLAS, cuSOLVER); CUDA_ARCH=sm_90 picks one" \
	  "  CXX=clang++                     another compiler" \
	  "  ARCH=x86-64-v3                  another machine than this one (default: native)"

.PHONY: always all examples test bench bench-peers bench-program fuzz fuzz-qp fuzz-files fuzz-readers python-venv torch-venv docs clean help
.DELETE_ON_ERROR:
.SECONDARY:

$(library): $(objects)
	@rm -f $@
	ar rcs $@ $^

# The programs at the root are those of the configuration made last, whichever was compiled last.
$(programs) $(small): %: $(build)/% always
	@ln -f $< $@
always:

$(programs:%=$(build)/%): $(build)/%: $(build)/examples/%.cpp.o $(parts) $(library)
	$(CXX) $(flags) -o $@ $^ $(libs)

$(small:%=$(build)/%): $(build)/%: $(build)/examples/small/%.cpp.o $(library)
	$(CXX) $(flags) -o $@ $^ $(libs)

$(build)/run-tests: $(tests) $(parts) $(library)
	$(CXX) $(flags) -o $@ $^ $(libs)

$(build)/fuzz-qp: $(build)/tests/fuzz_qp.cpp.o $(build)/tests/plain_qp.cpp.o $(library)
	$(CXX) $(flags) -fsanitize=fuzzer -o $@ $^ $(libs)

$(build)/fuzz-files: $(build)/tests/fuzz_files.cpp.o $(library)
	$(CXX) $(flags) -fsanitize=fuzzer -o $@ $^ $(libs)

$(build)/bench: $(build)/benchmarks/bench.cpp.o $(library)
	$(CXX) $(flags) -o $@ $^ $(libs)

$(build)/bench_framework: $(build)/benchmarks/framework.cpp.o $(library)
	$(CXX) $(flags) -o $@ $^ $(libs)

$(build)/%.cpp.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(flags) -MMD -MP -c -o $@ $<

$(build)/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(compile_cu) -MMD -MP -c -o $@ $<

# An optimiser's step rounds as its formula is written, with and without FMA.
$(build)/framework/optim.cu.o: flags += -ffp-contract=off

# Tests are compiled once and run once: optimising them would cost more than it saves. But not those of the solver's
# templates, which would share instantiations with the library, and give other bits.
$(filter-out %/solver_test.cpp.o,$(tests)): flags += -O1
$(build)/tests/main.cpp.o: flags += -O0

-include $(wildcard $(build)/*/*.d $(build)/*/*/*.d)

# The executor as CentOS 7 runs it: Python 3.9, the wheels of requirements/executor-el7.lock, glibc 2.17.
EL7_VENV := .venv-el7
EL7_PLATFORMS := manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux_2_12_x86_64 manylinux2010_x86_64 manylinux1_x86_64
EL7_TESTS := tests/web tests/infer tests/druid tests/store tests/test_rooms.py tests/test_config.py tests/test_log.py

.PHONY: test-el7
test-el7:  ## the executor's tests on Python 3.9 with CentOS 7's wheels; every shared object must need glibc <= 2.17
	@if python=$$(make/find-python.sh python3.9 2>/dev/null); then \
		$(MAKE) --no-print-directory EL7_PYTHON="$$python" $(EL7_VENV)/.ready && \
		cat $(EL7_VENV)/.ready && \
		$(EL7_VENV)/bin/python -m pytest -m "not trainer" $(wildcard $(EL7_TESTS)) $(ARGS); \
	else \
		echo "test-el7: NOT RUN, there is no python3.9 on the PATH or known to pyenv" >&2; \
	fi

$(EL7_VENV)/.ready: requirements/executor-el7.lock make/el7.mk
	rm -rf $(EL7_VENV)
	$(EL7_PYTHON) -m venv $(EL7_VENV)
	$(EL7_VENV)/bin/python -m pip install -q --no-deps --require-hashes --only-binary :all: \
		$(addprefix --platform ,$(EL7_PLATFORMS)) --python-version 3.9 --implementation cp --abi cp39 --abi abi3 --abi none \
		--target $(EL7_VENV)/lib/python3.9/site-packages -r requirements/executor-el7.lock
	$(EL7_VENV)/bin/python make/glibc.py 2.17 $(EL7_VENV)/lib/python3.9/site-packages > $(EL7_VENV)/glibc
	$(EL7_VENV)/bin/python -m pip install -q 'pytest>=8' 'pytest-timeout>=2.3' 'hypothesis>=6.100' 'moto[server]>=5' psutil
	echo "$(CURDIR)" > $(EL7_VENV)/lib/python3.9/site-packages/project.pth
	mv $(EL7_VENV)/glibc $@

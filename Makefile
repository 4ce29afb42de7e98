# The commands a person types. `make help` lists them.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
PREFIX  ?= /usr/local
DESTDIR ?=
LIBDIR  := $(PREFIX)/lib/ngrokd

# Servers and tools often live in sbin, which is not on an ordinary user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# command=Debian package
RUN_TOOLS  := curl=curl nc=netcat-openbsd
TEST_TOOLS := $(RUN_TOOLS) ip=iproute2 unshare=util-linux nginx=nginx-light redis-server=redis-server \
              redis-cli=redis-tools iperf3=iperf3 busybox=busybox jq=jq openssl=openssl setpriv=util-linux

# $(call need,TARGET,TOOLS): one line that names every missing Debian package.
need = @missing=; \
	command -v $(PYTHON) >/dev/null 2>&1 || { echo "make $(1) needs Python 3.9 or later, and there is" \
	  "no $(PYTHON): apt-get install python3 python3-venv (or say PYTHON=...)" >&2; exit 1; }; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing=" python3-venv"; \
	for pair in $(2); do \
	  command -v "$${pair%%=*}" >/dev/null 2>&1 || missing="$$missing $${pair\#*=}"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "make $(1) needs Debian packages that are missing: apt-get install$$missing" >&2; exit 1; \
	fi

# $(call launcher,NAME,MODULE): isolated (-I), so that a root daemon reads no PYTHONPATH or user site.
launcher = @python=$$($(PYTHON) -c 'import sys; print(sys.executable)'); \
	printf '\#!%s -I\nimport sys\n\nsys.path.insert(0, "%s")\nfrom %s import main\n\nsys.exit(main())\n' \
	  "$$python" "$(LIBDIR)" "$(2)" > "$(DESTDIR)$(PREFIX)/bin/$(1)"; \
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/$(1)"

.DEFAULT_GOAL := help
.PHONY: help run test venv lint check clean dist install needs-run needs-test needs-venv

help: ## this list
	@echo "make TARGET:"
	@sed -n 's/^\([a-z]*\):.*## /  \1 /p' Makefile | awk '{ printf "  %-8s ", $$1; $$1 = ""; print substr($$0, 2) }'

run: needs-run $(VENV)/run ## try it: the real daemon against a stand-in cloud, no account, no root
	@exec $(BIN)/ngrokd --foreground --sandbox

test: needs-test $(VENV)/dev ## every test (as root also those that need namespaces)
	$(BIN)/python -m pytest -n 2 --dist loadfile

venv: needs-venv $(VENV)/dev ## .venv with ngrokd and the tools of development

lint: needs-venv $(VENV)/dev ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test ## what continuous integration runs

clean: ## removes what make made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

dist: needs-venv $(VENV)/dev ## source archive and wheel in dist/
	rm -rf dist
	$(BIN)/python -m build

install: needs-venv $(BIN)/python ## into $(DESTDIR)$(PREFIX), with its packages; PYTHON is what will run it
	@rm -rf "$(DESTDIR)$(LIBDIR)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --target "$(DESTDIR)$(LIBDIR)" .
	@rm -rf "$(DESTDIR)$(LIBDIR)/bin" "$(DESTDIR)$(PREFIX)/share/ngrokd/init"
	@install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/ngrokd"
	@cp -R init "$(DESTDIR)$(PREFIX)/share/ngrokd/init"
	$(call launcher,ngrokd,ngrokd.cli)
	$(call launcher,ngrokctl,ngrokd.control.ctl)
	@echo "installed: $(DESTDIR)$(PREFIX)/bin/ngrokd, ngrokctl"

needs-run:
	$(call need,run,$(RUN_TOOLS))

needs-test:
	$(call need,test,$(TEST_TOOLS))

needs-venv:
	$(call need,venv,)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/run

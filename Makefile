# The commands a person types. `make help` lists them.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
PREFIX  ?= /usr/local
MINUTES ?= 5
DESTDIR ?=
LIBDIR  := $(PREFIX)/lib/ngrokd
SHARE   := $(PREFIX)/share

# For packagers: which init files go into DESTDIR, of systemd, sysv, openrc and launchd (sysv and
# openrc have the same place). Without DESTDIR that is the job of `ngrokd install`.
INIT       ?= $(if $(DESTDIR),systemd sysv)
SYSCONFDIR ?= /etc

# mode:source:place, of what needs no change, and of what names the program.
PAGES   := $(wildcard init/man/*.[1-8])
DATA     = $(foreach page,$(PAGES),644:$(page):$(SHARE)/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page))) \
           644:init/completions/ngrokd.bash:$(SHARE)/bash-completion/completions/ngrokd \
           644:init/completions/ngrokd.bash:$(SHARE)/bash-completion/completions/ngrokctl \
           644:init/completions/ngrokd.zsh:$(SHARE)/zsh/site-functions/_ngrokd \
           644:init/completions/ngrokd.fish:$(SHARE)/fish/vendor_completions.d/ngrokd.fish \
           644:init/completions/ngrokd.fish:$(SHARE)/fish/vendor_completions.d/ngrokctl.fish
systemd := 644:init/ngrokd.service:$(PREFIX)/lib/systemd/system/ngrokd.service
sysv    := 755:init/ngrokd.init:$(SYSCONFDIR)/init.d/ngrokd
openrc  := 755:init/ngrokd.openrc:$(SYSCONFDIR)/init.d/ngrokd
launchd := 644:init/com.ngrok.ngrokd.plist:/Library/LaunchDaemons/com.ngrok.ngrokd.plist
SERVICE  = $(foreach name,$(INIT),$($(name)))
# launchd has no such settings, nor macOS a logrotate.
SETTING  = $(if $(filter-out launchd,$(INIT)),644:init/ngrokd.default:$(SYSCONFDIR)/default/ngrokd \
           644:init/ngrokd.logrotate:$(SYSCONFDIR)/logrotate.d/ngrokd)
RENDER   = sed -e 's|/usr/local/bin/ngrokd|$(PREFIX)/bin/ngrokd|g' \
           -e 's|/etc/default/ngrokd|$(SYSCONFDIR)/default/ngrokd|g'
# For a list of mode:source:place, in the shell.
PARTS   := mode=$${each%%:*}; rest=$${each\#*:}; source=$${rest%%:*}; place="$(DESTDIR)$${rest\#*:}"

# Tests start Python hundreds of times. What they start, and the tests as pytest rewrites them, is
# compiled once, also where Python is told to keep nothing: that is a third of their time. The order
# is that of tests/conftest.py.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

# Servers and tools often live in sbin, which is not on an ordinary user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# command=Debian package
RUN_TOOLS  := curl=curl nc=netcat-openbsd
TEST_TOOLS := $(RUN_TOOLS) ip=iproute2 unshare=util-linux nginx=nginx-light redis-server=redis-server \
              redis-cli=redis-tools iperf3=iperf3 busybox=busybox jq=jq openssl=openssl setpriv=util-linux \
              man=man-db mandoc=mandoc zsh=zsh fish=fish shellcheck=shellcheck rsyslogd=rsyslog crun=crun \
              strace=strace tmux=tmux logrotate=logrotate systemd-analyze=systemd service=init-system-helpers \
              promtool=prometheus

BENCH_TOOLS := ip=iproute2 unshare=util-linux haproxy=haproxy stunnel=stunnel4 cc=gcc
# header=Debian package
BENCH_HEADERS := openssl/ssl.h=libssl-dev

# $(call need,TARGET,TOOLS,HEADERS): one line that names every missing Debian package.
need = @missing=; \
	command -v $(PYTHON) >/dev/null 2>&1 || { echo "make $(1) needs Python 3.9 or later, and there is" \
	  "no $(PYTHON): apt-get install python3 python3-venv (or say PYTHON=...)" >&2; exit 1; }; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing=" python3-venv"; \
	for pair in $(2); do \
	  command -v "$${pair%%=*}" >/dev/null 2>&1 || missing="$$missing $${pair\#*=}"; \
	done; \
	for pair in $(3); do \
	  echo "\#include <$${pair%%=*}>" | cc -E - >/dev/null 2>&1 || missing="$$missing $${pair\#*=}"; \
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
.PHONY: help run test longtest bench soak venv lint check clean manuals outputs dist install uninstall needs-run needs-test needs-bench needs-venv right-paths

help: ## this list
	@echo "make TARGET:"
	@sed -n 's/^\([a-z]*\):.*## /  \1 /p' Makefile | awk '{ printf "  %-10s ", $$1; $$1 = ""; print substr($$0, 2) }'

run: needs-run $(VENV)/run ## try it: the real daemon against a stand-in cloud, no account, no root
	@exec $(BIN)/ngrokd --foreground --sandbox

test: needs-test $(VENV)/dev ## the tests (as root also those that need namespaces)
	@# Two workers for each core of two: most of these tests wait more than they compute.
	$(PYTEST) -n 4 -m "not long"

longtest: needs-test $(VENV)/dev ## those that kill, boot and install for minutes
	$(PYTEST) -n 4 -m long

bench: needs-bench $(VENV)/dev ## against haproxy and stunnel, as root, some minutes; BENCH="--only ..." says more
	@$(BIN)/python -m tests.bench $(BENCH)

soak: needs-test $(VENV)/dev ## a daemon in trouble for MINUTES=5; a SEED=n repeats a run
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

venv: needs-venv $(VENV)/dev ## .venv with ngrokd and the tools of development

lint: needs-venv $(VENV)/dev ## ruff and mypy --strict, as Linux and as macOS have Python
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/macos/mypy.ini

check: lint test longtest ## what continuous integration runs

clean: ## removes what make made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

manuals: needs-venv $(VENV)/dev ## manuals and completions, from what the programs know of themselves
	$(BIN)/python -m docs.manuals

outputs: needs-venv $(VENV)/dev ## what ngrokctl prints, kept in tests/outputs to be read before it is committed
	$(BIN)/python -m tests.outputs

dist: needs-venv $(VENV)/dev ## source archive and wheel in dist/
	rm -rf dist
	$(BIN)/python -m build

install: right-paths needs-venv $(BIN)/python ## into $(DESTDIR)$(PREFIX), with its packages; PYTHON is what will run it
	@rm -rf "$(DESTDIR)$(LIBDIR)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile \
	  --target "$(DESTDIR)$(LIBDIR)" .
	@rm -rf "$(DESTDIR)$(LIBDIR)/bin" "$(DESTDIR)$(LIBDIR)"/ngrokd-*.dist-info/direct_url.json
	@$(BIN)/python -m compileall -q -s "$(DESTDIR)$(LIBDIR)" -p "$(LIBDIR)" "$(DESTDIR)$(LIBDIR)"
	@install -d "$(DESTDIR)$(PREFIX)/bin"
	$(call launcher,ngrokd,ngrokd.__main__)
	$(call launcher,ngrokctl,ngrokd.control.ctl)
	@for each in $(DATA) $(SERVICE) $(SETTING); do $(PARTS); \
	  case " $(SETTING) " in *" $$each "*) test ! -e "$$place" || continue;; esac; \
	  install -d "$${place%/*}" && $(RENDER) "$$source" > "$$place" && chmod $$mode "$$place" || exit 1; \
	done
	@echo "installed: $(DESTDIR)$(PREFIX)/bin/ngrokd, ngrokctl; the service: $(if $(INIT),$(INIT),ngrokd install)"

uninstall: right-paths ## takes out what `make install` with the same DESTDIR, PREFIX and INIT put there
	@rm -rf "$(DESTDIR)$(LIBDIR)"
	@rm -f "$(DESTDIR)$(PREFIX)/bin/ngrokd" "$(DESTDIR)$(PREFIX)/bin/ngrokctl"
	@for each in $(DATA) $(SERVICE) $(SETTING); do $(PARTS); \
	  test -e "$$place" || continue; \
	  if $(RENDER) "$$source" | cmp -s - "$$place"; then rm -f "$$place"; \
	  else echo "$$place stays: it is not what make install wrote"; fi; \
	done

# They stand in init files, in sed and in the shell without quotes, so nothing is done with others.
right-paths: export PREFIX := $(PREFIX)
right-paths: export SYSCONFDIR := $(SYSCONFDIR)
right-paths: export DESTDIR := $(DESTDIR)
right-paths:
	@for name in PREFIX SYSCONFDIR; do \
	  eval "value=\$$$$name"; \
	  case "$${value:-/}" in \
	    [!/]*) echo "$$name must start with /, and is $$value" >&2; exit 1;; \
	    *[!A-Za-z0-9/._+-]*) echo "$$name may have letters, digits and /._+-, and is $$value" >&2; exit 1;; \
	  esac; \
	done; \
	case "$$DESTDIR" in *[\"\`\$$\\]*) echo "DESTDIR may not have quotes, \$$ or \\: $$DESTDIR" >&2; exit 1;; esac

needs-run:
	$(call need,run,$(RUN_TOOLS))

needs-test:
	$(call need,test,$(TEST_TOOLS))

needs-bench:
	$(call need,bench,$(BENCH_TOOLS),$(BENCH_HEADERS))

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

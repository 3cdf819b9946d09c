# hacd: set-up and the commands of this checkout. `make` alone lists them.
#
# What is set up lies in .venv; a stamp in it says what has been done, so that a second call is quick.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
HEADER := hacd/loop/pyuv_compat.h
TYPED  := hacd tests bench soak fuzz docs/examples
SECONDS    ?= 60
DESTDIR    ?=
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
GSSAPI := /usr/lib/apache2/modules/mod_auth_gssapi.so

.PHONY: help install install-system demo test test-negotiate run check bench bench-full bench-smoke soak slope fuzz conf clean nginx \
	apache kerberos

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.hacd ## all set-up, in .venv: hacd, and pyuv where there is a C compiler

install-system: install ## hacd, its units and its settings for the whole system, under DESTDIR
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" systemd/install $(BIN)/python $(VENV)/wheels

demo: install ## a daemon and an origin, and the manual's examples between them
	@$(BIN)/python docs/examples/demo.py

test: $(VENV)/.test nginx apache ## the test suite
	$(BIN)/pytest -n 2

test-negotiate: $(VENV)/.test kerberos ## the tests of Negotiate, with a KDC and Apache (Debian's, installed if root)
	$(BIN)/pytest -m negotiate

run: install ## the daemon in the foreground; its socket is run/hacd.sock
	@mkdir -p run
	@exec $(BIN)/hacd run -c conf/hacd.toml --socket run/hacd.sock

check: $(VENV)/.check ## format, lint, types, layers, and what install-system installs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	.ci/systemd

bench: $(VENV)/.bench nginx ## the benchmarks, in two minutes; results go to bench/results
	$(BIN)/python -m bench

bench-full: $(VENV)/.bench nginx ## all benchmarks and the curves, in 16 minutes; plots go to docs/plots
	$(BIN)/python -m bench --full

bench-smoke: $(VENV)/.bench nginx ## all of them with tiny numbers, in a minute: whether they run
	$(BIN)/python -m bench --smoke --json bench/results/smoke.json

soak: $(VENV)/.bench nginx ## a daemon in trouble, under load, for SECONDS: no query may be lost, and none end twice
	$(BIN)/python -m soak --seconds $(SECONDS)

slope: $(VENV)/.bench nginx ## whether memory or descriptors grow, under ten minutes of load
	$(BIN)/python -m soak.slope

fuzz: $(VENV)/.fuzz ## bytes that nobody would send, for SECONDS in all; an input that breaks something is printed
	$(BIN)/python -m fuzz --seconds $(SECONDS)

conf: install ## write conf/hacd.toml anew from the table in hacd/settings/table.py
	$(BIN)/python -m hacd.settings > conf/hacd.toml.new
	mv conf/hacd.toml.new conf/hacd.toml

clean: ## take away all that the other targets made
	rm -rf $(VENV) run build dist hacd.egg-info bench/results .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find hacd tests bench soak fuzz docs -name __pycache__ -type d -prune -exec rm -rf {} +

# -- set-up

# The first Python that is new enough. `make PYTHON=...` names another.
$(VENV)/.made:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 ""; do \
	    $${python:-false} -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	[ -n "$$python" ] || { echo "hacd needs Python 3.11 or later, and finds none: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	$$python -m venv $(VENV) || { echo "$$python -m venv fails; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

# pyuv's source needs a header forced in ahead of it. Where it cannot be built, hacd runs on uvloop.
# No cache: pip would take a pyuv that it built with an older header.
$(VENV)/.wheel: $(HEADER) | $(VENV)/.made
	@if ! command -v $${CC:-cc} >/dev/null && ! command -v gcc >/dev/null; then \
	    echo "no C compiler: pyuv is not built, and hacd runs on uvloop (slower); install gcc and run make clean install to change that"; \
	elif ! { rm -rf $(VENV)/wheels && CFLAGS="-include $(CURDIR)/$(HEADER)" $(PIP) wheel --no-cache-dir --use-pep517 \
	    --no-deps --no-binary pyuv --wheel-dir $(VENV)/wheels pyuv==1.4.0 && $(PIP) install --force-reinstall --no-deps --no-index \
	    --find-links $(VENV)/wheels pyuv==1.4.0; } >$(VENV)/pyuv.log 2>&1; then \
	    echo "pyuv could not be built (see $(VENV)/pyuv.log): hacd runs on uvloop (slower)"; \
	fi
	@touch $@

$(VENV)/.hacd: pyproject.toml $(VENV)/.wheel
	@$(PIP) install -e .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.hacd
	@$(PIP) install -e '.[test]'
	@touch $@

# The types of the tests and of the benchmarks are checked too, so what they import is there.
$(VENV)/.check: pyproject.toml $(VENV)/.hacd
	@$(PIP) install -e '.[check,test,bench]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.hacd
	@$(PIP) install -e '.[bench]'
	@touch $@

# Where there is no atheris for this Python, fuzz itself says so.
$(VENV)/.fuzz: pyproject.toml $(VENV)/.hacd
	@$(PIP) install -e '.[fuzz]' >$(VENV)/fuzz.log 2>&1 && touch $@ || echo "atheris could not be installed, see $(VENV)/fuzz.log"

# Servers that nobody here wrote. The tests and the benchmarks start their own, on free ports. Only what wants
# Apache is skipped without it; the others fail.
nginx:
	@command -v nginx >/dev/null || .ci/debian /usr/sbin/nginx nginx-light || true

apache:
	@.ci/debian /usr/sbin/apache2 apache2-bin || true

kerberos:
	@.ci/debian "/usr/sbin/krb5kdc /usr/sbin/kadmin.local /usr/bin/kinit $(GSSAPI)" \
	    krb5-kdc krb5-admin-server krb5-user apache2-bin libapache2-mod-auth-gssapi

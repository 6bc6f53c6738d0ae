#!/usr/bin/env bash
# Installs the programs of others that the interoperation tests and the benchmarks run against: Debian packages as root, and
# current WireGuard implementations built from their registries into the user's cache. What cannot be installed is named and
# skipped: the tests that need it skip with a printed reason.
set -uo pipefail

peers="${WIRELANE_TEST_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/wirelane/peers/bin}"
mkdir -p "$peers"

packages=(iperf3 nftables wireguard-go wireguard-tools tshark iputils-ping iproute2 jq util-linux coturn dnsutils)
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
      || echo "not installed: ${missing[*]}"
  else
    echo "not installed (needs root and apt-get): ${missing[*]}"
  fi
fi

if [ ! -x "$peers/wireguard" ]; then
  if command -v go >/dev/null; then
    GOBIN="$peers" go install golang.zx2c4.com/wireguard@latest || echo "not built: current wireguard-go"
  else
    echo "not built (needs go): current wireguard-go"
  fi
fi

if [ ! -x "$peers/boringtun-cli" ]; then
  if command -v cargo >/dev/null; then
    cargo install --quiet boringtun-cli --root "$(dirname "$peers")" || echo "not built: boringtun-cli"
  else
    echo "not built (needs cargo): boringtun-cli"
  fi
fi
echo "peers of the tests: $peers"

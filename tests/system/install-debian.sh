#!/bin/sh
# Install from Debian packages what the system tests need beside Python. Quiet, and harmless when run again.
# The packages' own services are neither started nor used: the tests start their own.
set -eu

packages="slurmctld slurmd slurm-client munge iproute2 haproxy stunnel4 nftables iptables tmux python3-venv"
missing=""
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
# shellcheck disable=SC2086 # one word for each package
if ! { $sudo apt-get -qq update && $sudo apt-get -qq install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi

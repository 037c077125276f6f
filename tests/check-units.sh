#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Verify the unit files with systemd's own reader.  The daemon need not be installed: a root of our own has an
# executable where the unit looks for one, and the units that ours names.
set -eu
cd "$(dirname "$0")/.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/sbin" "$root/usr/bin" "$root/usr/lib/klpd" "$root/etc/systemd/system"
for program in usr/sbin/klpd usr/lib/klpd/klpd-guard usr/lib/klpd/klpd-release usr/bin/busctl; do
    printf '#!/bin/sh\n' >"$root/$program"
    chmod +x "$root/$program"
done
cp systemd/*.service "$root/etc/systemd/system/"
rm "$root/etc/systemd/system/org.klpd1.service" # D-Bus's own format, not systemd's
for unit in dbus.socket systemd-journald.socket; do
    printf '[Socket]\nListenStream=/run/x\n' >"$root/etc/systemd/system/$unit"
    printf '[Service]\nExecStart=/usr/bin/busctl\n' >"$root/etc/systemd/system/${unit%.socket}.service"
done
for unit in sysinit basic shutdown multi-user sockets; do
    printf '[Unit]\nDescription=%s\n' "$unit" >"$root/etc/systemd/system/$unit.target"
done
printf '[Slice]\n' >"$root/etc/systemd/system/system.slice"
output=$(systemd-analyze verify --man=no --recursive-errors=yes --root="$root" klpd.service klpd-guard.service klpd-release.service 2>&1) || {
    printf '%s\n' "$output"
    exit 1
}
if [ -n "$output" ]; then
    printf '%s\n' "$output"
    exit 1
fi

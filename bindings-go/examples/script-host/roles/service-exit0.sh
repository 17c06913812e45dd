#!/usr/bin/env bash
# Sends the beacon `run` and exits with code 0.
beacon() {
  local address=${BEACON%%/*}
  exec 3<>"/dev/tcp/${address%%:*}/${address##*:}" || return 0
  printf 'GET /%s/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "${BEACON#*/}" "$1" "$address" >&3
  read -r _ <&3
  exec 3>&-
}
beacon run
exit 0

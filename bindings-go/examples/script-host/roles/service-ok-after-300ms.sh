#!/usr/bin/env bash
# Sends the beacon `run`, waits for 300 ms and exits successfully.
beacon() {
  local address=${BEACON%%/*}
  exec 3<>"/dev/tcp/${address%%:*}/${address##*:}" || return 0
  printf 'GET /%s/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "${BEACON#*/}" "$1" "$address" >&3
  read -r _ <&3
  exec 3>&-
}
beacon run
sleep 0.3
exit 0

#!/bin/sh
# Takes over the data folder, drops root, and accepts connections from other containers.
set -e
if [ "$1" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
  fi
  exec "$@" --protected-mode no
fi
exec "$@"

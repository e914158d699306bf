#!/bin/sh
# Each step is done once; after a reboot nothing is left to do.
set -eu
for archive in /opt/proofs/images/*.tar; do
    kept="/var/lib/docker/$(basename "$archive").loaded"
    [ -e "$kept" ] || docker load --quiet --input "$archive"
    touch "$kept"
done
if [ "$(docker info --format '{{.Swarm.LocalNodeState}}')" = inactive ]; then
    docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377
fi
docker network inspect proxy >/dev/null 2>&1 ||
    docker network create --driver overlay --attachable proxy

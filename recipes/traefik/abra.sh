# Raise a version with every change of the file that it stands for.
export TRAEFIK_YML_VERSION=v1
export TLS_YML_VERSION=v1

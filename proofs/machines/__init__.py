"""Machines that boot from scratch: in systemd-nspawn, and in QEMU."""

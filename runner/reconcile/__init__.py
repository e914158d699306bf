"""The core: state machine, decisions, gate, probes. Only probes.py and http_client.py do I/O."""

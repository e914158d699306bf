"""The claims of each suite, judged by the records of its machines."""

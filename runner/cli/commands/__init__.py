"""The subcommands, each in a file of its own."""

"""Text, options and progress for a terminal; shared by both commands."""

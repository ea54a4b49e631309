"""Everything about a run folder: its files, its lock, and what is written into it."""

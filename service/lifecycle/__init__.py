"""From settings to a ready server, reloads, readiness, and the end."""

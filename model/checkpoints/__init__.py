"""Checkpoint formats: read, map and write weights from every published source."""

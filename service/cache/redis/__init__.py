"""The same caches shared between servers through Redis, as a hint that may fail."""

"""From a valid request to its answer, on one inference thread. Knows no HTTP."""

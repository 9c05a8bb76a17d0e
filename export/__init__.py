"""From a checkpoint to a bundle, and the runtimes that run bundles.

`export.bundle` and `export.runtime` serve: they need no torch. Everything else here builds.
"""

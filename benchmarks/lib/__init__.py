"""What several benchmark programs share: bundles, load, peers, timing, plots."""

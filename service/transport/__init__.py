"""Connections: limits, closing, draining, and the operators' port."""

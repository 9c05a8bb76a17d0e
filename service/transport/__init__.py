"""Connections: parsing, limits, closing, graceful shutdown, and the operators' port."""

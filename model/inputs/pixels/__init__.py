"""Resize and crop frames as the published recipes do."""

"""Who may ask, how often, and from where a clip may come."""

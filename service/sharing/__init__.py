"""What clients share: how much of a bounded thing each may hold, and whose turn it is."""

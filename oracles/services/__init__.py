"""What every oracle behind an address needs: tokens that stay secret, requests that are tried again, a purse, a home.

Not an oracle itself. The HTTP client of each kind is its own; what may be tried again, how fast and for how much is
said here once.
"""

"""`duelenv serve`: any registered oracle as an HTTP server, for the oracle `remote` and for whoever speaks its JSON."""

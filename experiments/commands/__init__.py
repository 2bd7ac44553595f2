"""The `duelenv` command."""

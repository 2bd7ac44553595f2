"""The page on which people compare responses, and its command: `duelenv label`."""

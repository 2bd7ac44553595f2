"""The leaderboard: a named, versioned set of worlds, agents played in those that they fit, and what came out.

`worlds` says what is played, `playing` plays it in ordinary run folders, `filling` brings a table up to date, `stored`
keeps it and says what of it is stale, `scores` and `standings` make ranks and intervals of it, `page` shows them.
"""

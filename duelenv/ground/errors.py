"""The one exception for mistakes a user can make; not for defects of this package."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in what a user asked for.

    Its message is one sentence that names the value, what was expected and what to do. The command
    line prints that sentence without a traceback and exits with code 2.
    """

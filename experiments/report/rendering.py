"""The page out of its templates: style and script stand inside, and the policy lets no other script run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["code_spans", "render"]


def code_spans(text: str) -> str:
    """Escape a text for HTML, what stands between backticks as code."""
    import markupsafe

    parts = [markupsafe.escape(part) for part in re.split(r"`([^`]+)`", text)]
    marked = [
        markupsafe.Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    ]
    return markupsafe.Markup("").join(marked)


def render(content: Mapping[str, Any]) -> str:
    """Fill the templates of `duelenv.experiments.report`.

    Args:
        content: What they show, by the names that they have for it. Texts are escaped.

    Returns:
        The page. Its Content-Security-Policy names the SHA-256 of its own script; what got in by another way would not
        run.
    """
    import jinja2

    loader = jinja2.PackageLoader("duelenv.experiments.report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = (loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.filters["code_spans"] = code_spans
    return environment.get_template("report.html").render(
        content, style=style, script=script, script_digest=f"sha256-{digest}"
    )

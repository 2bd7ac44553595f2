"""Executes examples/first_look.ipynb: writes its outputs into it, and docs/first_look.md, which shows it.

    python docs/notebook.py

Cells run here as they would in Jupyter, one after the other in one namespace: what they print, what their last line is
worth, and figures as PNG. A test runs them again and compares.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "first_look.ipynb"
PAGE = ROOT / "docs" / "first_look.md"
FIGURES = ROOT / "docs" / "figures"


def read() -> dict[str, Any]:
    """Return the notebook."""
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return notebook


def run(notebook: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each code cell with its outputs in nbformat 4."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            yield cell, _outputs("".join(cell["source"]), names)


def _outputs(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        data: dict[str, Any] = {"text/plain": [repr(value)]}
        if hasattr(value, "savefig"):
            picture = io.BytesIO()
            value.savefig(picture, format="png", dpi=110, metadata={"Software": None})
            data["image/png"] = base64.b64encode(picture.getvalue()).decode()
        outputs.append({"data": data, "execution_count": None, "metadata": {}, "output_type": "execute_result"})
    return outputs


def page(notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Return the notebook as Markdown, and its figures by their names."""
    parts, figures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        # The notebook lies in examples/, the page among its neighbours.
        said = source.replace("](../docs/", "](")
        parts.append(said if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            picture = output.get("data", {}).get("image/png")
            if picture is None:
                text = "".join(output.get("text") or output["data"]["text/plain"]).rstrip("\n")
                parts.append(f"```text\n{text}\n```")
            else:
                name = f"{PAGE.stem}_{len(figures) + 1}.png"
                figures[name] = base64.b64decode(picture)
                parts.append(f"![What the cell above draws](figures/{name})")
    return "\n\n".join(parts) + "\n", figures


def main() -> None:
    """Write all of it."""
    notebook = read()
    for number, (cell, outputs) in enumerate(run(notebook), 1):
        cell["execution_count"] = number
        cell["outputs"] = [output | {"execution_count": number} if "data" in output else output for output in outputs]
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text, figures = page(notebook)
    PAGE.write_text(text, encoding="utf-8")
    for name, content in figures.items():
        (FIGURES / name).write_bytes(content)


if __name__ == "__main__":
    main()

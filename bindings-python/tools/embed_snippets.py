"""Embeds files into the documents, after each `<!-- file: PATH -->`. A test checks the result."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "bindings-python/README.md", *(ROOT / "docs/guide").glob("*python*.md")]
SNIPPET = re.compile(r"(<!-- file: (\S+) -->\n```\w+\n)(.*?)(```\n)", re.DOTALL)


def embed(snippet: re.Match[str]) -> str:
    """Returns the snippet with the current content of its file."""
    return f"{snippet[1]}{(ROOT / snippet[2]).read_text(encoding='utf-8')}{snippet[4]}"


for document in DOCUMENTS:
    text = document.read_text(encoding="utf-8")
    document.write_text(SNIPPET.sub(embed, text), encoding="utf-8")

"""Puts files into the documents that show them, behind each `<!-- file: PATH -->`; a test compares them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "bindings-python/README.md", *(ROOT / "docs/guide").glob("*python*.md")]
BLOCK = re.compile(r"(<!-- file: (\S+) -->\n```\w+\n)(.*?)(```\n)", re.DOTALL)


def shown(block: re.Match[str]) -> str:
    """The block with the file as it is now."""
    return f"{block[1]}{(ROOT / block[2]).read_text(encoding='utf-8')}{block[4]}"


for document in DOCUMENTS:
    text = document.read_text(encoding="utf-8")
    document.write_text(BLOCK.sub(shown, text), encoding="utf-8")

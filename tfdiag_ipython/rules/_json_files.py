"""What a file is that was to be a JSON object, in words: shared by the rules that meet one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEEDED = "an object in braces is needed"
_TOLD = {
    "empty": ("is empty: save or download it again", "A full disk or an interrupted download leaves such files."),
    "cut short": ("", "An interrupted download or copy leaves such files: get it again."),
    "text": ("is not JSON", "JSON takes no comma after the last entry, no comments, and double quotes only."),
    "git-lfs": (
        "is a Git LFS pointer: git lfs pull fetches the file",
        "The repository was cloned without Git LFS, or downloaded file by file.",
    ),
    "html": (
        "is a web page: the download got a login or error page in its place",
        "A proxy or a login page answered, or the page about the file was saved instead of the file.",
    ),
    "python": (
        "is a Python dictionary, not JSON: write it with json.dump or save_pretrained",
        "JSON has double quotes; `str(config)` and `print` write single ones.",
    ),
    "utf-16": (
        "is UTF-16, JSON must be UTF-8: save it again as UTF-8",
        "Some editors, and PowerShell's `>`, write UTF-16.",
    ),
    "bom": (
        "begins with a byte order mark: save it again as UTF-8 without one",
        "Some Windows editors put three bytes in front of the text.",
    ),
    "gguf": (
        "is a GGUF file: give its folder, and gguf_file=",
        "from_pretrained took the file's path for a configuration's.",
    ),
    "zip": ("is a zip archive, not JSON", "It is a weights file or an archive under this name."),
    "gzip": ("is compressed (gzip), not JSON: unpack it", "It was downloaded or packed as .gz."),
    "binary": ("is binary data, not JSON", "It is another file under this name, or damaged."),
    "not an object": (f"is not JSON: {NEEDED}", "A configuration is an object in braces."),
}


def unreadable(seen: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong with the file of the probe ``configuration-file``, as the end of a sentence, and how such files come about."""
    kind = str(seen["kind"])
    told, why = _TOLD.get(kind, ("is not JSON", "Look at its first lines."))
    if kind == "cut short":
        told = f"is cut short: it ends at line {seen['line']}, in the middle of a value"
    elif kind == "text" and seen["line"]:
        told = f"is not JSON at line {seen['line']}, column {seen['column']}: … {seen['near'][-50:]}"
    elif kind == "not an object" and not seen["line"]:
        told = f"is JSON, but no object: {NEEDED}"
    return told, why

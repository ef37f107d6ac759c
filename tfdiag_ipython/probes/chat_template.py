"""Whose chat template is missing, and whether its checkpoint has one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._module_calls import name_of
from tfdiag_ipython.probes.model_folder import folder_of

CHATS = re.compile(
    r"(?i)(?<![a-z])(?:instruct|chat|it|assistant|sft|dpo|rlhf|tulu|zephyr|vicuna|alpaca|hermes)(?![a-z])"
)
"""Words in the names of checkpoints that were trained on conversations."""
_FILES = ("chat_template.jinja", "chat_template.json", "chat_templates")
_MOST_BYTES = 20_000_000


class ChatTemplateProbe(Probe):
    """The tokenizer or processor that was asked to apply a template, and the folder or cached repository that it was loaded from.

    Facts: ``name`` (variable), ``kind`` (class), ``processor`` (it is one), ``within`` (its tokenizer has a template), ``place`` (as it
    was loaded), ``local`` (a folder), ``chats`` (the name says that it was trained on conversations), ``file`` (the template's file in that
    place; empty: none, or the place is not known), ``others`` (variables whose tokenizer has one).
    """

    name: ClassVar[str] = "chat-template"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        frame = next(
            iter(scene.find_frames("apply_chat_template", "get_chat_template", "_resolve_chat_template")), None
        )
        owner: Any = frame.locals.get("self") if frame is not None else None
        if owner is None or "transformers" not in str(type(owner).__module__):
            return Evidence(missing="the frame of apply_chat_template() is gone")
        members = getattr(owner, "__dict__", {})
        inner = members.get("tokenizer")
        place = str(members.get("name_or_path") or getattr(inner, "__dict__", {}).get("name_or_path") or "")
        scene.deadline.check()
        file, known = _template_in(scene, place)
        kept = ("PreTrainedTokenizerBase", "ProcessorMixin")
        others = [
            name
            for name, value in list(scene.namespace.items())
            if value is not owner
            and not name.startswith("_")
            and any(base.__name__ in kept for base in type(value).__mro__)
            and getattr(value, "__dict__", {}).get("chat_template")
        ]
        facts = {
            "name": name_of(owner, scene),
            "kind": type(owner).__name__,
            "processor": any(base.__name__ == "ProcessorMixin" for base in type(owner).__mro__),
            "within": bool(getattr(inner, "__dict__", {}).get("chat_template")),
            "place": place,
            "local": bool(place) and Path(place).is_dir(),
            "chats": bool(CHATS.search(place.rpartition("/")[2])),
            "file": file,
            "others": tuple(others[:3]),
        }
        told = f"{facts['kind']}, loaded from {place or 'no place'}"
        seen = [Observation(str(facts["name"]) or "the tokenizer", told, "frame `apply_chat_template`")]
        if known:
            seen.append(Observation("a chat template in its files", file or "none", place[-60:]))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _template_in(scene: Scene, place: str) -> tuple[str, bool]:
    """The file of a place that holds a template, and whether the place could be looked at."""
    try:
        folder = folder_of(scene, place) if place else None
        if folder is None:
            return "", False
        found = next((name for name in _FILES if (folder / name).exists()), "")
        settings = folder / "tokenizer_config.json"
        if not found and settings.is_file() and settings.stat().st_size < _MOST_BYTES:
            read = json.loads(settings.read_text(encoding="utf-8"))
            found = settings.name if isinstance(read, dict) and read.get("chat_template") else ""
        return found, True
    except (OSError, ValueError):
        return "", False

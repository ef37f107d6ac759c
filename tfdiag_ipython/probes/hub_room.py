"""Whether the disk of the Hub's cache has room for the file that was being downloaded."""

from __future__ import annotations

import os
import re
import shutil
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.sizes import file_size


class HubRoomProbe(Probe):
    """Looks at the disk on which a download from the Hub was being written.

    Facts: ``folder``, ``file`` (asked for), ``needed`` (bytes; 0: not known), ``free`` (bytes), ``writable``.
    """

    name: ClassVar[str] = "hub-room"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        found = scene.find_frames("_download_to_tmp_and_move", file="huggingface_hub/file_download.py")
        if not found:
            return Evidence(missing="no download from the Hub stands in the failing frames")
        seen = found[0].locals
        target, size = seen.get("incomplete_path"), seen.get("expected_size")
        if not isinstance(target, (str, os.PathLike)):
            return Evidence(missing="the download does not say where it writes")
        folder = os.path.dirname(os.fspath(target))
        while folder and not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        folder = re.sub(r"[/\\](?:model|dataset|space)s--.*", "", folder)  # the cache itself says more than its parts
        facts: dict[str, Any] = {
            "folder": folder,
            "file": str(seen.get("filename", ""))[:300],
            "needed": size if isinstance(size, int) else 0,
            "free": shutil.disk_usage(folder or ".").free,
            "writable": os.access(folder or ".", os.W_OK),
        }
        told = (
            Observation("needed", file_size(facts["needed"]) if facts["needed"] else "not known", facts["file"]),
            Observation("free", file_size(facts["free"]), folder),
        )
        return Evidence(MappingProxyType(facts), told)

"""A load that hangs raises nothing: what the program waits for is read from where it stands, in the Hub client's frames."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from tfdiag_ipython.addresses import without_login
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.probes.hub_cache import ASKED_BY, LOADERS

CLIENT = re.compile(r"[/\\](?:huggingface_hub|transformers|datasets)[/\\]")
NO_LOAD = re.compile(r"[/\\]huggingface_hub[/\\](?:inference|_commit_api|_upload\w*|lfs)\b")
"""An inference call or an upload waits for the Hub too, but nothing in the cache can stand in for it."""
STAGES: tuple[tuple[str, str, str], ...] = (
    ("resolve", r"[/\\]socket\.py", "getaddrinfo"),
    ("tls", r"[/\\]ssl\.py", "do_handshake"),
    ("connect", r"[/\\]socket\.py|[/\\]urllib3[/\\]util[/\\]connection\.py", "create_connection"),
    ("connect", r"[/\\]httpcore\d?[/\\]_backends[/\\]sync\.py", "connect_tcp"),
    ("read", r"[/\\](?:socket|ssl)\.py", "readinto|recv|recv_into|read"),
    ("read", r"[/\\]httpcore\d?[/\\]_backends[/\\]sync\.py", "read"),
    ("pause", r"[/\\]huggingface_hub[/\\]utils[/\\]_http\.py", "_?http_(?:stream_)?backoff(?:_base)?"),
    ("lock", r"[/\\]huggingface_hub[/\\]utils[/\\]_fixes\.py", "WeakFileLock"),
    ("transfer", r"[/\\]huggingface_hub[/\\]file_download\.py", "xet_get"),
    ("threads", r"[/\\]huggingface_hub[/\\]_snapshot_download\.py", "snapshot_download"),
)
"""What is waited for, told by the file and the function; the innermost frame that is in the table decides."""

WAITS: Mapping[str, str] = {
    "resolve": "for the name of {place} to be resolved",
    "connect": "for a connection to {place}",
    "tls": "for the TLS handshake with {place}",
    "read": "for an answer from {place}",
    "pause": "to try {place} again",
    "lock": "for another download of this file to end",
    "transfer": "for a download from {place}",
    "threads": "for the downloads of a snapshot from {place}",
}
"""The same in words."""


class Place(Protocol):
    """A line of a traceback, stored or live."""

    @property
    def file(self) -> str: ...

    @property
    def function(self) -> str: ...


def stage(frames: Sequence[Place], handled: str = "") -> str:
    """What a load from the Hub waits for, its frames given from the outermost call inwards; empty when it is no such wait.

    ``handled`` names the exception that was being handled when the interrupt came. The resolver is C code that no signal ends: Stop
    takes effect when it has given up, and the ``gaierror`` is on its way out.
    """
    load = any(frame.function in {*ASKED_BY, *LOADERS} and CLIENT.search(frame.file) for frame in frames)
    if not load or any(NO_LOAD.search(frame.file) for frame in frames):
        return ""
    if handled == "gaierror" and any("huggingface_hub" in frame.file for frame in frames):
        return "resolve"
    for frame in reversed(frames):
        for name, file, function in STAGES:
            if re.search(rf"(?:{file})$", frame.file) and re.fullmatch(function, frame.function):
                return name if any("huggingface_hub" in outer.file for outer in frames) else ""
    return ""


def details(frames: Sequence[LiveFrame]) -> dict[str, Any]:
    """The values in the waiting frames: ``url`` (without a login or a query), ``place`` (host and port), ``method``, ``limit``
    (the time-out of one try in seconds; 0: there is none; ``None``: not known), ``tries``, ``most_tries``, ``pause`` (seconds
    until the next try), ``came`` and ``size`` (bytes of the file that is being downloaded), ``lock`` (file), ``locked`` (seconds).
    """
    found: dict[str, Any] = {
        "url": "",
        "place": "",
        "method": "",
        "limit": None,
        "tries": 0,
        "most_tries": 0,
        "pause": 0.0,
        "came": None,
        "size": None,
        "lock": "",
        "locked": 0.0,
    }
    for frame in frames:
        if frame.function.endswith(("backoff", "backoff_base")) and frame.file.endswith("_http.py"):
            seen = frame.locals
            found["tries"] = _number(seen.get("nb_tries")) or found["tries"]
            found["most_tries"] = _number(seen.get("max_retries")) or found["most_tries"]
            found["pause"] = _number(seen.get("actual_sleep") or seen.get("sleep_time")) or found["pause"]
            found["method"] = _text(seen.get("method")) or found["method"]
            _take_address(found, seen)
        elif frame.function == "http_get" and frame.file.endswith("file_download.py"):
            seen = frame.locals
            _take_address(found, seen)
            found["method"] = "GET"
            came = seen.get("new_resume_size", seen.get("resume_size"))
            found["came"], found["size"] = _number(came), _number(seen.get("expected_size") or seen.get("total"))
        elif frame.function in {"model_info", "dataset_info"} and frame.file.endswith("hf_api.py"):
            found["url"], found["method"] = _clean(_text(frame.locals.get("path"))), "GET"
        elif frame.function == "request" and re.search(r"(?:sessions|httpx\d?[/\\]_client)\.py$", frame.file):
            _take_address(found, frame.locals)
            found["limit"] = _limit(frame.locals.get("timeout", found["limit"]), found["limit"])
        elif frame.function in {"read", "connect_tcp", "start_tls"} and "_backends" in frame.file:
            found["limit"] = _limit(frame.locals.get("timeout"), found["limit"])
        elif frame.function == "WeakFileLock":
            found["lock"] = str(_text(frame.locals.get("lock_file")) or frame.locals.get("lock_file", ""))[:500]
            start = _number(frame.locals.get("start_time"))
            found["locked"] = max(0.0, time.time() - start) if start else 0.0
    found["place"] = urlsplit(found["url"]).netloc[:80]
    return found


class HubWaitProbe(Probe):
    """Looks at the frames of a load from the Hub that was interrupted.

    Facts: ``stage`` (see ``STAGES``), ``seconds`` (how long the cell had run; 0: not known) and those of :func:`details`.
    """

    name: ClassVar[str] = "hub-wait"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        frames = _interrupted(scene)
        handled = scene.exception.__context__ if scene.exception is not None else None
        waits_for = stage(frames, type(handled).__name__)
        if not waits_for:
            return Evidence(missing="the interrupted program is not in a load from the Hub")
        facts = {
            "stage": waits_for,
            "seconds": scene.cell.seconds if scene.cell is not None else 0.0,
            **details(frames),
        }
        return Evidence(MappingProxyType(facts), tuple(_observations(facts)))


def _interrupted(scene: Scene) -> list[LiveFrame]:
    """The frames of the interrupt itself: those of earlier tries hang on it as its context."""
    trace = scene.exception.__traceback__ if scene.exception is not None else None
    frames: list[LiveFrame] = []
    while trace is not None:
        frames.append(LiveFrame(trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return frames


def _observations(facts: Mapping[str, Any]) -> Iterable[Observation]:
    source = "the interrupted frames"
    if facts["seconds"]:
        yield Observation("this cell had run for", f"{facts['seconds']:.0f} s", "the shell's clock")
    if facts["url"]:
        yield Observation("request", f"{facts['method']} {facts['url']}".strip(), source)
    if facts["limit"] is not None:
        yield Observation("time-out of one try", f"{facts['limit']:g} s" if facts["limit"] else "none", source)
    if facts["tries"]:
        yield Observation("tries", f"{facts['tries']} of {facts['most_tries'] + 1}", source)
    if facts["came"] is not None:
        size = f" of {facts['size']:,}" if facts["size"] else ""
        yield Observation("arrived", f"{facts['came']:,}{size} bytes", source)
    if facts["lock"]:
        yield Observation("lock file", facts["lock"], source)


def _take_address(found: dict[str, Any], seen: Mapping[str, Any]) -> None:
    found["url"] = _clean(_text(seen.get("url"))) or found["url"]


def _clean(url: str) -> str:
    """An address without login and query, which may hold a signature."""
    parts = urlsplit(without_login(url))
    return f"{parts.scheme}://{parts.netloc}{parts.path}"[:500] if parts.netloc else ""


def _limit(value: object, otherwise: float | None) -> float | None:
    """A time-out in seconds; ``None`` in the library's own call means that there is none."""
    if value is None:
        return 0.0
    number = _number(value)
    return number if number is not None else otherwise


def _number(value: object) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

"""The parameters of the callable that was given a keyword it does not take, and those most like that keyword."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, MappingProxyType, ModuleType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.installed_symbols import LIBRARIES
from tfdiag_ipython.probes.nearest import guess, with_a_word

UNEXPECTED = re.compile(
    r"(?<![\w.])(?P<callee>[\w.]+)\(\) got an unexpected keyword argument ['\"](?P<argument>\w+)['\"]"
)
"""The message, with the groups ``callee`` (qualified from Python 3.10 on) and ``argument``."""
_LIMIT = 20_000
LOADING = frozenset(
    [
        "dtype",
        "torch_dtype",
        "device_map",
        "attn_implementation",
        "quantization_config",
        "trust_remote_code",
        "revision",
        "token",
        "cache_dir",
        "subfolder",
        "variant",
        "local_files_only",
        "force_download",
        "use_safetensors",
        "ignore_mismatched_sizes",
        "output_loading_info",
        "low_cpu_mem_usage",
        "max_memory",
        "offload_folder",
        "offload_buffers",
        "state_dict",
        "key_mapping",
        "gguf_file",
        "adapter_kwargs",
        "proxies",
        "config",
        "tp_plan",
        "experts_implementation",
    ]
)
"""Arguments of a model's ``from_pretrained``, most of which its signature does not show; only those that its code names count."""


class CallableSignatureProbe(Probe):
    """The signature of the callable that the message names, where it belongs to a library that tfdiag speaks of.

    Facts: ``where`` (dotted name), ``parameters`` (names that can be given as keywords), ``nearest`` (those most like
    the argument), ``sure`` (it can only be the first), ``through`` (``from_pretrained`` where that
    handed on what neither it nor the configuration knows: the nearest are then theirs, too), ``written`` (the value that a cell gives
    the argument, as it is written there). Source: ``inspect.signature`` of the
    class or function found by its qualified name in the frames, the namespace or the loaded modules of the library;
    nothing is called.
    """

    name: ClassVar[str] = "callable-signature"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        found = failure.says(UNEXPECTED)
        path = found["callee"].removesuffix(".__init__").split(".") if found else []
        if not found or not path or path == ["__init__"]:
            return Evidence(missing="the message does not name the callable")
        target = _called_so(scene, path)
        if target is None:
            return Evidence(missing=f"no loaded library has {'.'.join(path)}")
        scene.deadline.check()
        try:
            signature = inspect.signature(target)
        except (TypeError, ValueError):
            return Evidence(missing=f"{'.'.join(path)} does not tell its parameters")
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = tuple(one.name for one in signature.parameters.values() if one.kind in kinds and one.name != "self")
        handed = _handed_on(scene) if found["callee"].endswith(".__init__") else frozenset()
        known = {*names, *handed}
        near = guess(found["argument"], known) or with_a_word(found["argument"], known)
        where = f"{target.__module__}.{target.__qualname__}"
        facts = {
            "where": where,
            "parameters": names,
            "nearest": near.names,
            "through": "from_pretrained" if handed else "",
            "sure": near.sure,
            "written": _written(found["argument"], scene),
        }
        like = f"; most like `{found['argument']}`: {', '.join(near.names)}" if near else ""
        return Evidence(
            MappingProxyType(facts), (Observation("Parameters", f"{len(names)}{like}", f"the signature of {where}"),)
        )


def _written(argument: str, scene: Scene) -> str:
    """The value of the argument as the newest cell that gives it says, in a call or in a dictionary; empty where none does."""
    gives = re.compile(rf"\b{argument}\s*=(?!=)\s*([^,)}}\n]+)|['\"]{argument}['\"]\s*:\s*([^,)}}\n]+)")
    found = (gives.search(cell.source) for cell in reversed(scene.cells))
    return next(((match[1] or match[2]).strip() for match in found if match), "")


def _handed_on(scene: Scene) -> frozenset[str]:
    """What a model's ``from_pretrained`` takes, read off its code, and the settings of the configuration that it has loaded."""
    frame = next(iter(scene.find_frames("from_pretrained", file="modeling_utils.py")), None)
    if frame is None:
        return frozenset()
    loader = inspect.getattr_static(frame.globals.get("PreTrainedModel"), "from_pretrained", None)
    code: Any = getattr(inspect.unwrap(getattr(loader, "__func__", loader)), "__code__", None)
    if not isinstance(code, CodeType):
        return frozenset()
    config = frame.locals.get("config")
    words = {*code.co_varnames, *(one for one in code.co_consts if isinstance(one, str))}
    settings = (
        {name for name in (*_own(config), *dir(type(config))) if not name.startswith("_")}
        if config is not None
        else set()
    )
    return frozenset((words & LOADING) | settings)


def _own(config: object) -> set[str]:
    own = getattr(config, "__dict__", None)
    return set(own) if type(own) is dict else set()


def _called_so(scene: Scene, path: list[str]) -> Any:
    """The class or function with this qualified name that is nearest to the failing call, if a library has it.

    Another library's class of the same name (``Trainer``) is an answer, too: then ``None`` is, and nothing farther off counts.
    """
    for space in _spaces(scene, path[0]):
        value: Any = space.get(path[0])
        for name in path[1:]:
            value = inspect.getattr_static(value, name, None)
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        module = getattr(value, "__module__", None)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or not isinstance(module, str):
            continue
        if value.__qualname__ == ".".join(path):
            return value if re.fullmatch(LIBRARIES, module.partition(".")[0]) else None
    return None


def _spaces(scene: Scene, name: str) -> Iterator[Mapping[str, Any]]:
    """Where a name may be found: the frames from the innermost outwards, the namespace, the modules that these name, the libraries'."""
    near: list[Mapping[str, Any]] = []
    for frame in reversed(list(scene.frames)[-12:]):
        scene.deadline.check()
        near += [frame.locals, frame.globals]
    near.append(scene.namespace)
    yield from near
    for space in near:
        scene.deadline.check()
        yield from (vars(value) for value in list(space.values()) if type(value) is ModuleType and name in vars(value))
    if not scene.live:
        return
    for place, module in list(sys.modules.items())[:_LIMIT]:
        if module is not None and re.fullmatch(LIBRARIES, place.partition(".")[0]) and name in vars(module):
            scene.deadline.check()
            yield vars(module)

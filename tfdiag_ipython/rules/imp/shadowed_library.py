from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.installed_symbols import LIBRARIES
from tfdiag_ipython.probes.shadowing import ShadowingProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule

FRONT = """
import os, pathlib, sys, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
os.chdir(folder)
sys.path.insert(0, str(folder))
"""


class ShadowedLibrary(Rule):
    """A file of the person's has a library's name, and Python finds it first.

    *What it means*
    `import transformers` loads the person's own `transformers.py` (or a `tokenize.py` that the library needs from
    Python itself), which is still half loaded when the name is asked for: "partially initialized module".

    *Why it happens*
    Python looks in the working folder before it looks at what is installed.

    *How tfdiag confirms it*
    It looks where the loaded module came from and whether it has the `__version__` that the library has, and for files of
    such names beside the failing one and in the working folder. A library that the one asked for needs counts, too: a
    `tokenizers.py` breaks transformers.

    *Fixes and their safety*
    `rename-file` is shown only, with the path: other files may import it.

    *Example*
    A notebook beside a file `transformers.py`.

    *References*
    Python: `sys.path`.
    """

    code = "IMP009"
    name = "shadowed-library"
    raised = ("builtins.ImportError", "builtins.AttributeError")
    specific = True
    message = re.compile(
        rf"partially initialized module ['\"‘](?P<module>{LIBRARIES})(?P<inner>[\w.]*)['\"’]"
        rf"|cannot import name '\w+' from '(?P<asked>{LIBRARIES})(?:\.[\w.]+)?' \((?P<file>[^)\n]{{0,600}})\)"
        rf"|module '(?P<owner>{LIBRARIES})' has no attribute"
        rf"|No module named '(?P<parent>{LIBRARIES})\.[\w.]+'"
    )
    needs = (ShadowingProbe,)
    fixes = (Offer("rename-file", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text="ImportError: cannot import name 'GPT2Tokenizer' from partially initialized module 'transformers' "
            "(most likely due to a circular import) (/home/me/transformers.py)",
            certainty=Certainty.LIKELY,
            title="`/home/me/transformers.py` is found in the place of the library transformers",
            fixes=("rename-file",),
        ),
        NoMatch(
            text="ImportError: cannot import name 'a' from partially initialized module 'mine' (most likely due to a "
            "circular import)"
        ),
        NoMatch(text="AttributeError: partially initialized module 'cv2' has no attribute 'gapi_wip_gin_GKernel'"),
        Reproduce(
            (
                "import os, pathlib, sys, tempfile\nfolder = tempfile.mkdtemp()\nos.chdir(folder)\nsys.path.insert(0, "
                "folder)\n"
                "pathlib.Path('transformers.py').write_text('from transformers import AutoTokenizer')",
                "import transformers",
            ),
            title="transformers.py` is found in the place of the library transformers",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
        Match(
            text="ImportError: cannot import name 'AutoModel' from 'transformers' (/home/me/work/transformers.py)",
            certainty=Certainty.LIKELY,
            title="`/home/me/work/transformers.py` is found in the place of the library",
        ),
        NoMatch(
            text="ImportError: cannot import name 'ZebraModel' from 'transformers' (/home/me/transformers/src/transformers/__init__.py)",
            code="IMP003",
        ),
        Reproduce(
            (FRONT + "(folder / 'transformers.py').write_text('x = 1')", "from transformers import AutoModel"),
            title="transformers.py` is found in the place of the library transformers: rename it",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
        Reproduce(
            (
                FRONT + "(folder / 'tokenizers').mkdir()\n(folder / 'tokenizers' / '__init__.py').touch()",
                "from transformers import BertTokenizerFast",
            ),
            title="tokenizers/__init__.py` is found in the place of the library tokenizers",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
        Reproduce(
            (FRONT + "(folder / 'datasets').mkdir()  # the data", "from datasets import load_dataset"),
            title="datasets` is found in the place of the library datasets",
            certainty=Certainty.CONFIRMED,
            isolated=True,
            needs=("torch",),
        ),
        Reproduce(
            (
                FRONT + "(folder / 'transformers').mkdir()\n(folder / 'transformers' / '__init__.py').touch()",
                "from transformers.models.bert import BertModel",
            ),
            title="transformers/__init__.py` is found in the place of the library transformers",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        module, seen = hit["module"], evidence[ShadowingProbe.name]
        if not module:
            return self._whole(hit, seen)
        files: Mapping[str, str] = seen["files"] if seen else {}
        told = re.search(r"\(([^()\n]+\.py)\)\s*$", hit.raised.message)
        own = told is not None and "-packages" not in told[1]
        name, path = module, files.get(module, "") or (told[1] if told and own else "")
        if not path and files:
            name, path = next(iter(files.items()))
        if path:
            kind = "library" if name == module else "standard module"
            title = f"`{path}` is found in the place of the {kind} {name}: rename it"
        else:
            title = f"{module} was asked for a name while it was half loaded: "
            title += "a file of yours has its name, or that of a module it needs"
        fixes = (
            self.offer("rename-file", f"Rename {path}", "Delete the __pycache__ beside it, then restart the kernel."),
        )
        return self.found(
            title,
            Certainty.CONFIRMED if seen and path else Certainty.LIKELY,
            what=f"{module} imports itself, or something that it needs, from the wrong place.",
            why="Python looks in the working folder before it looks at what is installed.",
            evidence=seen.seen,
            fixes=fixes if path else (),
        )

    def _whole(self, hit: Hit, seen: Evidence) -> Diagnosis | None:
        """A file or folder that has a library's name, loads without an error, and has none of its names."""
        asked = hit["asked"] or hit["owner"] or hit["parent"]
        loaded: Mapping[str, str] = seen["loaded"] if seen else {}
        name = asked if asked in loaded else next((other for other in _NEEDS.get(asked, ()) if other in loaded), "")
        path = loaded.get(name, "")
        if not path and not seen and re.search(rf"[/\\]{asked}\.py\Z", hit["file"]) and "-packages" not in hit["file"]:
            name, path = asked, hit["file"]
        if not path:
            return None
        kind = "file" if path.endswith(".py") else "folder"
        needed = f", which {asked} needs" if name != asked else ""
        label = f"Rename the {kind} {path[-80:]}"
        return self.found(
            f"`{path[-90:]}` is found in the place of the library {name}{needed}: rename it",
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what=f"`import {name}` loads this {kind}, which has none of the library's names.",
            why="Python looks in the working folder before it looks at what is installed.",
            evidence=seen.seen,
            fixes=(self.offer("rename-file", label, "Then restart the kernel: it stays loaded until then."),),
        )


_NEEDS = {"transformers": ("tokenizers", "huggingface_hub", "safetensors", "torch"), "peft": ("transformers", "torch")}
"""Libraries without which these cannot be imported whole."""

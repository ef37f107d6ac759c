from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.installed_symbols import LIBRARIES, WANTED, wanted
from tfdiag_ipython.probes.shadowing import NO_METADATA, ShadowingProbe
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
    It looks where the loaded module came from, whether it has the `__version__` that the library has, and whether the library is
    installed behind it and knows the name. A library that the one asked for needs counts, too: a `tokenizers.py` breaks
    transformers. A name that the person's own file has, or nearly has, is no case of it.

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
        rf"|{NO_METADATA.pattern}"
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
        Reproduce(  # none of these libraries is one file, whatever version it tells
            (FRONT + "(folder / 'datasets.py').write_text('__version__ = 1')", "from datasets import load_dataset"),
            title="`datasets.py` is found in the place of the library datasets, which is not installed",
            certainty=Certainty.CONFIRMED,
            isolated=True,
            needs=("torch", "without datasets"),
        ),
        Reproduce(  # the person may mean either
            (FRONT + "(folder / 'evaluate.py').write_text('def run(): pass')", "from evaluate import measure"),
            title="`evaluate.py` is found in the place of the library evaluate, which is not installed",
            certainty=Certainty.LIKELY,
            isolated=True,
            needs=("torch", "without evaluate"),
        ),
        Reproduce(
            (
                FRONT + "(folder / 'peft.py').touch()\nfrom transformers import BertConfig, BertModel",
                "model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9))\n"
                "model.add_adapter(None)",
            ),
            title="`peft.py` is taken for the library peft: rename it",
            certainty=Certainty.CONFIRMED,
            isolated=True,
            needs=("torch", "transformers>=5", "without peft"),
        ),
        Reproduce(
            (FRONT + "(folder / 'datasets').mkdir()  # the data", "from datasets import load_dataset"),
            title="datasets` is found in the place of the library datasets",
            certainty=Certainty.CONFIRMED,
            isolated=True,
            needs=("torch", "without datasets"),
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
        if hit["library"]:
            return self._found_first(hit["library"], seen)
        if not module:
            return self._whole(failure, hit, seen)
        files: Mapping[str, str] = seen["files"] if seen else {}
        told = re.search(r"\(([^()\n]+\.py)\)\s*$", hit.raised.message)
        own = told is not None and "-packages" not in told[1]
        name, path = module, files.get(module, "") or (told[1] if told and own else "")
        if not path and files:
            name, path = next(iter(files.items()))
        if path:
            kind = "library" if name in LIBRARIES.split("|") else "standard module"
            title = f"`{path}` is found in the place of the {kind} {name}: rename it"
        else:
            title = f"{module} was asked for a name while it was half loaded: "
            title += "a file of yours has its name, or that of a module it needs"
        fixes = (self.offer("rename-file", f"Rename {path}", f"Delete the __pycache__ beside it. {THEN_RESTART}."),)
        return self.found(
            title,
            Certainty.CONFIRMED if seen and path else Certainty.LIKELY,
            what=f"{module} imports itself, or something that it needs, from the wrong place.",
            why="Python looks in the working folder before it looks at what is installed.",
            evidence=seen.seen,
            fixes=fixes if path else (),
        )

    def _found_first(self, name: str, seen: Evidence) -> Diagnosis | None:
        """A file that nobody imported, which makes another library believe that this one is installed."""
        path = seen["found"].get(name, "") if seen else ""
        if not path:
            return None
        return self._rename(
            name, path, f"`{path[-90:]}` is taken for the library {name}: rename it", Certainty.CONFIRMED, seen
        )

    def _whole(self, failure: Failure, hit: Hit, seen: Evidence) -> Diagnosis | None:
        """A file or folder that has a library's name, loads without an error, and has none of its names."""
        asked = hit["asked"] or hit["owner"] or hit["parent"]
        loaded: Mapping[str, str] = seen["loaded"] if seen else {}
        name = asked if asked in loaded else next((other for other in _NEEDS.get(asked, ()) if other in loaded), "")
        path = loaded.get(name, "")
        if not path and not seen and re.search(rf"[/\\]{asked}\.py\Z", hit["file"]) and "-packages" not in hit["file"]:
            name, path = asked, hit["file"]
        if not path or (seen and name in seen["own"]):
            return None  # the person means the file, and one of its own names
        needed = f", which {asked} needs" if name != asked else ""
        absent = bool(seen) and name not in seen["behind"]
        symbol = wanted(found.groupdict())[0] if (found := failure.says(WANTED)) else ""
        meant = bool(re.fullmatch(_THEIRS.get(name, "(?!)"), symbol)) or not path.endswith(".py") or bool(needed)
        meant = meant or (bool(seen) and (name in seen["theirs"] or (bool(hit["parent"]) and not absent)))
        told = f"`{path[-90:]}` is found in the place of the library {name}{needed}"
        title = f"{told}, which is not installed" if absent and not needed else f"{told}: rename it"
        return self._rename(name, path, title, Certainty.CONFIRMED if seen and meant else Certainty.LIKELY, seen)

    def _rename(self, name: str, path: str, title: str, certainty: Certainty, seen: Evidence) -> Diagnosis:
        kind = "file" if path.endswith(".py") else "folder"
        label = f"Rename the {kind} {path[-80:]}"
        return self.found(
            title,
            certainty,
            what=f"`import {name}` finds this {kind}, which has none of the library's names.",
            why="Python looks in the working folder before it looks at what is installed.",
            evidence=seen.seen,
            fixes=(self.offer("rename-file", label, f"{THEN_RESTART}: it stays loaded until then."),),
        )


_NEEDS = {"transformers": ("tokenizers", "huggingface_hub", "safetensors", "torch"), "peft": ("transformers", "torch")}
"""Libraries without which these cannot be imported whole."""
_THEIRS = {
    "datasets": r"load_\w+|(?:Iterable)?Dataset(?:Dict)?|concatenate_datasets|Features|ClassLabel|Value|Audio|Image",
    "evaluate": r"load|combine|evaluator|EvaluationModule|list_evaluation_modules",
    "peft": r"\w+Config|get_peft_\w+|Peft\w+|prepare_model_for_\w+|TaskType|inject_adapter_in_model",
    "trl": r"\w+Trainer|\w+Config|setup_chat_format",
    "accelerate": r"Accelerator|init_empty_weights|load_checkpoint_and_dispatch|infer_auto_device_map|notebook_launcher",
    "transformers": r"Auto\w+|Trainer|TrainingArguments|pipeline|[A-Z]\w+(?:Model|Tokenizer(?:Fast)?|Config|For[A-Z]\w+)",
}
"""Names by which a library is known: who asks for one of them means the library, installed or not."""

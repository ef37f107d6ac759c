from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.loading import load_with_option
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_folder import ModelFolderProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.cfg._examples import PLACE, files_of
from tfdiag_ipython.rules.cfg._model_types import first_release
from tfdiag_ipython.rules.imp._symbols import older

_CONFIGURATION = """from transformers import PretrainedConfig

class OwnConfig(PretrainedConfig):
    model_type = "own9"
"""
_MODELING = """import torch
from transformers import PreTrainedModel
from .configuration_own import OwnConfig

class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(2, 2)
        self.post_init()
"""
OWN_CODE = (
    "import os, tempfile\nos.environ['HF_MODULES_CACHE'] = tempfile.mkdtemp()  # where a checkpoint's code is copied to\n"
    + PLACE
    + files_of(
        (
            "config.json",
            "{'model_type': 'own9', 'architectures': ['OwnModel'], 'auto_map': {'AutoConfig': 'configuration_own.OwnConfig', "
            "'AutoModelForCausalLM': 'modeling_own.OwnModel'}}",
        )
    )
    + f"(folder / 'configuration_own.py').write_text({_CONFIGURATION!r})\n"
    + f"(folder / 'modeling_own.py').write_text({_MODELING!r})\n"
    + "import torch\nfrom safetensors.torch import save_file\n"
    + "weights = {'layer.weight': torch.zeros(2, 2), 'layer.bias': torch.zeros(2)}\n"
    + "save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})\n"
)
"""A cell that makes a checkpoint with code of its own, as a model's authors put it on the Hub."""


class CodeNotTrusted(Rule):
    """The checkpoint brings Python code of its own, which was not allowed to run.

    *What it means*
    The configuration's `auto_map` names classes in `.py` files beside the weights. They run only with `trust_remote_code=True`.

    *Why it happens*
    The model is not part of transformers, or was not when it was published. In a notebook transformers asks, and gives up after 15 s.

    *How tfdiag confirms it*
    It reads `auto_map` in the folder, or in the cached repository, and counts the lines of the files that would run. It never runs or
    imports them. From the history of transformers' names it tells whether a release knows the model type itself.

    *Fixes and their safety*
    `trust-code` (unsafe, never otherwise: the code runs with all rights of the person, reads files and tokens, uses the network) adds
    `trust_remote_code=True` to the call, after a preview. `upgrade` is shown where a release knows the model without that code.

    *Example*
    `AutoModelForCausalLM.from_pretrained("acme/own-model")` for a repository with `modeling_own.py`.

    *References*
    transformers: "Custom models", `dynamic_module_utils.py`, `resolve_trust_remote_code`.
    """

    code = "CFG005"
    name = "code-not-trusted"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"The repository (?:for )?['`]?(?P<place>\S{1,300}?)['`]? (?:contains|references) custom code(?: \(hosted in [^)\n]{1,200}\))? which must be executed"
        r"|Loading (?P<older>[^\n]{1,300}?) requires (?:you )?to execute (?:the |some )?(?P<part>\w+(?: \w+)?) file in that repo"
    )
    needs = (ModelFolderProbe,)
    fixes = (Offer("trust-code", Applicability.UNSAFE), Offer("upgrade", Applicability.DISPLAY_ONLY))
    CASES = (
        Match(
            text="ValueError: The repository for acme/own-model contains custom code which must be executed to correctly load the model. "
            "You can inspect the repository content at https://hf.co/acme/own-model.\nPlease pass the argument "
            "`trust_remote_code=True` to allow custom code to be run.",
            certainty=Certainty.LIKELY,
            title="`acme/own-model` brings code of its own",
            fixes=("trust-code",),
        ),
        Match(
            text="ValueError: Loading acme/own-model requires you to execute the tokenizer file in that repo on your local machine. Make sure "
            "you have read the code there to avoid malicious use, then set the option `trust_remote_code=True` to remove this error.",
            certainty=Certainty.LIKELY,
            title="`acme/own-model` brings code of its own .*the tokenizer",
        ),
        Match(
            text="ValueError: The repository ./q contains custom code which must be executed to correctly load the model.",
            evidence={
                "model-folder": {
                    "path": "./q",
                    "asked": "AutoModelForCausalLM",
                    "model_type": "qwen3_next",
                    "auto_map": {"AutoConfig": "configuration_q.QConfig"},
                    "code": {"configuration_q.py": 40},
                }
            },
            certainty=Certainty.CONFIRMED,
            title=r"`\./q` brings code of its own \(configuration_q\.py, 40 lines\).*read it first",
            fixes=("trust-code", "upgrade"),
        ),
        NoMatch(text="ValueError: The repository for acme/prices contains custom rules which must be checked."),
        NoMatch(text="ValueError: Loading acme/prices requires you to execute the query in that repo."),
        Reproduce(
            (
                OWN_CODE,
                "from transformers import AutoModelForCausalLM\n"
                "model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)",
            ),
            title=r"brings code of its own \(configuration_own\.py, modeling_own\.py, 15 lines\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("trust-code"),),
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        place, held = (hit["place"] or hit["older"])[-80:], evidence[ModelFolderProbe.name]
        part = f" for the {hit['part']}" if hit["part"] else ""
        asked = str(held["asked"]) if held else ""
        fixes = [
            self.offer(
                "trust-code",
                "Let this code run: trust_remote_code=True",
                "It runs with all your rights: it can read your files and tokens and use the network. Read it first; for a repository on "
                "the Hub also pass revision= with the commit that you have read, since the files can change.",
                display=not asked,
                asked=asked,
            )
        ]
        model_type = str(held["model_type"]) if held else ""
        first, version = first_release(model_type) if model_type else "", failure.versions.get("transformers", "")
        why = "No class of transformers is used for it: the model's authors wrote their own."
        if first and (not version or older(version, first)):
            why = f"transformers {first} and later know `{model_type[:60]}` themselves, without this code."
            label = f"pip install --upgrade transformers (at least {first})"
            fixes.insert(0, self.offer("upgrade", label, f"{THEN_RESTART}: no foreign code has to run."))
        elif first:
            why = f"transformers {version} knows `{model_type[:60]}` itself; the checkpoint's auto_map asks for its own classes instead."
        code: Mapping[str, int] = held["code"] if held else {}
        told = ""
        if code:
            names = ", ".join(list(code)[:3]) + (f" and {len(code) - 3} more" if len(code) > 3 else "")
            told = f" ({names[:70]}, {sum(code.values())} lines)"
        elif held and held["auto_map"]:
            told = f" ({next(iter(held['auto_map'].values()))[:50]})"
        return self.found(
            f"`{place}` brings code of its own{told}{part}, which runs only when you allow it: read it first",
            Certainty.CONFIRMED if held and held["auto_map"] else Certainty.LIKELY,
            what="Its configuration's `auto_map` names classes in Python files of the checkpoint; trust_remote_code=True runs them here.",
            why=why,
            evidence=held.seen,
            fixes=tuple(fixes),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        asked = str(fix.parameters["asked"])
        return edit_cells(
            scene,
            lambda source: load_with_option(source, asked, "trust_remote_code", "True"),
            apart=True,
            note="The Python files named above will run in this kernel, with all your rights.",
        )

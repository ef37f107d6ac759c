from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule


class CheckpointCodeNotImported(Rule):
    """The code that lies beside a checkpoint (`trust_remote_code=True`) could not be imported.

    *What it means*
    transformers copies a checkpoint's own Python files into a package `transformers_modules` and imports them from there. The module asked for
    is not in it.

    *Why it happens*
    The folder's name holds a dot or ends in a slash, which older releases turned into another module's name; a file that the code imports is
    not in the folder; or a pickled model is loaded in a process that never imported that code.

    *How tfdiag confirms it*
    By the module's name.

    *Fixes and their safety*
    None is carried out: upgrade transformers, give the folder a name of letters, digits and underscores, and see that all `.py` files are in it.

    *Example*
    `AutoModel.from_pretrained("./chatglm-6b/", trust_remote_code=True)` with transformers 4.26.

    *References*
    transformers: `dynamic_module_utils.py`, `get_cached_module_file`.
    """

    code = "IMP016"
    name = "checkpoint-code-not-imported"
    raised = ("builtins.ImportError",)
    message = re.compile(r"No module named ['\"‘`]?(?P<module>transformers_modules(?:\.[\w. -]+)?)")
    CASES = (
        Match(
            text="ModuleNotFoundError: No module named 'transformers_modules.tiny-glm'",
            certainty=Certainty.LIKELY,
            title="`transformers_modules.tiny-glm`",
        ),
        NoMatch(text="ModuleNotFoundError: No module named 'shop_modules.tiny'"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        return self.found(
            f"The checkpoint's own code could not be imported: `{hit['module']}` is not among the modules that were copied",
            Certainty.LIKELY,
            what="With trust_remote_code=True the Python files beside the checkpoint are copied into `transformers_modules`.",
            why="Older releases stumble over dots and slashes at the end in the folder's name; else a .py file is missing in the folder, or a "
            "pickle is opened where that code was never imported.",
        )

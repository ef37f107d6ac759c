from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule


class PredecessorOfTransformers(Rule):
    """The code imports transformers under one of its former names.

    *What it means*
    The library was called pytorch_pretrained_bert until July 2019 and pytorch_transformers until September 2019; transformers since.

    *Why it happens*
    The notebook or the script is from that time.

    *How tfdiag confirms it*
    By the module's name.

    *Fixes and their safety*
    None is carried out: the classes kept their names, their results did not (tuples became objects, losses come with `labels=`).

    *Example*
    `from pytorch_transformers import BertModel`

    *References*
    transformers: release notes of 1.0 and 2.0, and the migration guide in the documentation of 4.
    """

    code = "IMP015"
    name = "predecessor-of-transformers"
    raised = ("builtins.ImportError",)
    message = re.compile(r"No module named ['\"‘`]?(?P<module>pytorch_pretrained_bert|pytorch_transformers)\b")
    links = (Link("Migration", "https://huggingface.co/docs/transformers/v4.57.1/migration"),)
    CASES = (
        Match(
            text="ModuleNotFoundError: No module named 'pytorch_transformers'",
            certainty=Certainty.LIKELY,
            title="`pytorch_transformers` is the former name of transformers",
        ),
        NoMatch(text="ModuleNotFoundError: No module named 'pytorch_shop'"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        return self.found(
            f"`{hit['module']}` is the former name of transformers (until 2019): import from transformers",
            Certainty.LIKELY,
            what="The library was renamed twice; the old packages are not developed any more.",
            why="The classes kept their names, but models now return objects with named fields instead of tuples.",
        )

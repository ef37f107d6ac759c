from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule

SETUP = """
import pathlib, tempfile
from transformers import AutoConfig
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "config.json").write_text('{"model_type": "bert",')
"""


class ConfigurationNotJson(Rule):
    """A configuration file was found, and it is not JSON.

    *What it means*
    The library reads `config.json` (and its like for processors and generation) as JSON, and the file's text is something else.

    *Why it happens*
    The file is empty or cut short, was edited by hand (a comma too many), is a Git LFS pointer, or is a web page saved under that name.

    *How tfdiag confirms it*
    From the message; where the chain has the JSON reader's own error, its place in the file is told.

    *Fixes and their safety*
    None is carried out: get the file again, or mend the place that is told.

    *Example*
    `AutoConfig.from_pretrained(folder)` where `config.json` breaks off after the first line.

    *References*
    transformers: `configuration_utils.py`, `PretrainedConfig._get_config_dict`.
    """

    code = "CFG003"
    name = "configuration-not-json"
    raised = ("builtins.OSError",)
    message = re.compile(r"It looks like the config file at '(?P<file>[^'\n]{1,300})' is not a valid JSON file")
    CASES = (
        Match(
            text="OSError: It looks like the config file at './out/config.json' is not a valid JSON file.",
            certainty=Certainty.LIKELY,
            title=r"`\./out/config\.json` is not JSON",
        ),
        NoMatch(text="ValueError: settings.json is not a valid JSON file"),
        Reproduce(
            (SETUP, "AutoConfig.from_pretrained(folder)"), title="is not JSON: .*line 1", certainty=Certainty.LIKELY
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        reader = failure.find("json.decoder.JSONDecodeError", "UnicodeDecodeError")
        said = f": {reader.message.splitlines()[0][:90]}" if reader and reader.message else ""
        return self.found(
            f"`{hit['file'][-100:]}` is not JSON{said}",
            Certainty.LIKELY,
            what="The file is there, and its text cannot be read as JSON.",
            why="Look at its first lines: empty, cut short, a Git LFS pointer (`version https://git-lfs…`) or a web page means: get it again.",
        )

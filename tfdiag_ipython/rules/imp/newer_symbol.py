from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.installed_symbols import WANTED, InstalledSymbolsProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule
from tfdiag_ipython.rules.imp._symbols import culprit, first_release, older, read, removal, stale


class NewerSymbol(Rule):
    """A name that the library has not yet, or has in no release that tfdiag knows of.

    *What it means*
    The code asks for a class of a later release than the installed one, or for something private that came and went.

    *Why it happens*
    Model families appear with a minor release (`LlamaForCausalLM` with 4.28, `Qwen3ForCausalLM` with 4.51); an environment with an
    older one cannot import them, and a tokenizer of the family "does not exist or is not currently imported".

    *How tfdiag confirms it*
    The loaded module has neither the name nor one like it, and its version is older than the family's first release. Where the first
    release is not known, it says so and stays with *likely*.

    *Fixes and their safety*
    `upgrade` is shown only: it changes the environment, and the kernel must restart.

    *Example*
    `from transformers import LlamaTokenizer` on transformers 4.27.

    *References*
    transformers: the release notes.
    """

    code = "IMP003"
    name = "newer-symbol"
    raised = ("builtins.ImportError", "builtins.AttributeError", "builtins.ValueError")
    message = WANTED
    needs = (InstalledSymbolsProbe, PackageVersionsProbe)
    fixes = (Offer("upgrade", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text="ValueError: Tokenizer class LlamaTokenizer does not exist or is not currently imported.",
            certainty=Certainty.LIKELY,
            title="`LlamaTokenizer` is first in transformers 4.28",
            fixes=("upgrade",),
        ),
        Match(
            text="ImportError: cannot import name 'Gemma3ForCausalLM' from 'transformers' (/x/transformers/__init__.py)",
            evidence={
                "installed-symbols": {
                    "symbol": "Gemma3ForCausalLM",
                    "module": "transformers",
                    "version": "4.46.3",
                    "exists": False,
                    "nearest": (),
                    "elsewhere": (),
                    "variants": (),
                    "backends": {},
                }
            },
            certainty=Certainty.CONFIRMED,
            title="`Gemma3ForCausalLM` is first in transformers 4.50, here is 4.46.3",
        ),
        Match(
            text="AttributeError: module 'torch' has no attribute 'float8_e4m3fn'",
            title="torch has no `float8_e4m3fn`",
        ),
        NoMatch(text="ImportError: cannot import name 'soft_unicode' from 'markupsafe'"),
        NoMatch(text="ImportError: cannot import name 'AdamW' from 'transformers' (x.py)", code="IMP002"),
        Reproduce(
            ("from transformers import ZebraForCausalStripes",),
            title=r"transformers \d.* has no `ZebraForCausalStripes`",
            certainty=Certainty.LIKELY,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name, seen = read(failure, hit), evidence[InstalledSymbolsProbe.name]
        if name is None or stale(evidence, name.library):
            return None
        known = removal(name)
        if known is not None and (seen or known.other_framework or not older(name.version, known.gone or "0")):
            return None  # a name that a release still had is missing only where files of two releases are mixed
        if seen and (seen["exists"] or seen["nearest"]):
            return None
        version = str(seen["version"]) if seen else name.version
        first = first_release(name.symbol) if name.library == "transformers" else ""
        if first and version and not older(version, first):
            first = ""
        where = culprit(failure)
        asked = f"`{where}` asks for it." if where else ""
        upgrade = self.offer(
            "upgrade",
            f"pip install --upgrade {name.library.replace('_', '-')}" + (f" (at least {first})" if first else ""),
            "Then restart the kernel.",
        )
        if first:
            here = f", here is {version}" if version else ""
            title = f"`{name.symbol}` is first in transformers {first}{here}: upgrade and restart the kernel"
            why = f"The installed release is older than this model family. {asked}"
            certain = bool(seen)
        else:
            title = f"{name.module} {version} has no `{name.symbol}`".replace("  ", " ")
            title += ": the code that asks for it is written for another release"
            why = f"It is misspelt, of another release, or needs a package that is missing. {asked}"
            certain = False
        return self.found(
            title,
            Certainty.CONFIRMED if certain else Certainty.LIKELY,
            what=f"Nothing in {name.module} is called so.",
            why=why.strip(),
            evidence=seen.seen,
            fixes=(upgrade,) if first or not seen else (),
        )

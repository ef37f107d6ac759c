from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.installed_symbols import WANTED, InstalledSymbolsProbe
from tfdiag_ipython.probes.nearest import distance
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule
from tfdiag_ipython.rules.imp._symbols import (
    culprit,
    exported,
    later,
    meant,
    older,
    read,
    release_of,
    removal,
    stale,
    still_to_come,
)


class NewerSymbol(Rule):
    """A name that the library has not yet, or has in no release that tfdiag knows of.

    *What it means*
    The code asks for a class of a later release than the installed one, or for something private that came and went.

    *Why it happens*
    Model families appear with a minor release (`LlamaForCausalLM` with 4.28, `Qwen3ForCausalLM` with 4.51); an
    environment with an older one cannot import them, and a tokenizer of the family "does not exist or is not currently
    imported".

    *How tfdiag confirms it*
    The loaded module has neither the name nor one like it, and its version is older than the first release that exports
    the name, by a table read from the wheels of the releases (4.19 to 5.23). Where the first release is not known, it
    says so and stays with *possible*.

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
            text="ImportError: cannot import name 'Gemma3ForCausalLM' from 'transformers' (/x/__init__.py)",
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
            text="ImportError: cannot import name 'HybridCache' from 'transformers' (/x/__init__.py)",
            evidence={
                "installed-symbols": {
                    "symbol": "HybridCache",
                    "module": "transformers",
                    "version": "4.40.0",
                    "exists": False,
                    "nearest": (),
                    "elsewhere": (),
                    "variants": (),
                    "backends": {},
                }
            },
            certainty=Certainty.CONFIRMED,
            title="`HybridCache` is first in transformers 4.44 and gone again from 5.0 on, here is 4.40.0",
            fixes=("upgrade",),
        ),
        Match(
            text="AttributeError: module 'torch' has no attribute 'float8_e4m3fn'",
            title="torch has no `float8_e4m3fn`: misspelt, of another release, or of a missing package",
            certainty=Certainty.POSSIBLE,
        ),
        Match(
            text="ValueError: Tokenizer class LLaMATokenizer does not exist or is not currently imported.",
            title="`LLaMATokenizer` is written `LlamaTokenizer`",
        ),
        Match(
            text="ImportError: cannot import name 'pipeline' from 'transformers' (/x/__init__.py)",
            title="transformers has no `pipeline`, which came with 4.18 or an earlier release: a missing package, or files of two",
            certainty=Certainty.POSSIBLE,
        ),
        Match(
            text="ImportError: cannot import name 'Llama4ForCausalLM' from 'transformers' (/x/__init__.py)",
            title="`Llama4ForCausalLM` is first in transformers 4.51",
        ),
        NoMatch(text="ImportError: cannot import name 'soft_unicode' from 'markupsafe'"),
        NoMatch(text="ImportError: cannot import name 'AdamW' from 'transformers' (x.py)", code="IMP002"),
        Reproduce(
            ("from transformers import ZebraForCausalStripes",),
            title=r"transformers \d.* has no `ZebraForCausalStripes`: misspelt",
            certainty=Certainty.POSSIBLE,
        ),
        Reproduce(
            ("from transformers import Qwen3_5ForCausalLM",),  # 4.57 has Qwen3ForCausalLM, which is another model
            title=r"`Qwen3_5ForCausalLM` is first in transformers 5\.\d+, here is 4",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5"),
        ),
        Reproduce(
            ("from transformers import DecisionPipeline",),
            title=r"`DecisionPipeline` is first in transformers 5.23, here is \d",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5.23"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name, seen = read(failure, hit), evidence[InstalledSymbolsProbe.name]
        if name is None or stale(evidence, name.library):
            return None
        version = str(seen["version"]) if seen else name.version
        known = removal(name)
        if known is not None and not still_to_come(name, known, version):
            return None
        ours = name.library == "transformers"
        newer = later(name.symbol, version) if ours and version and known is None else ""
        if known is not None and older(version, release_of("first", name.symbol) or "0"):
            newer = name.symbol
        near = seen["nearest"] if seen else ()
        if seen and (seen["exists"] or seen["elsewhere"]):
            return None  # in another module: IMP022
        if seen and near and not (newer and _slips(name.symbol, newer) < seen["slips"]):
            return None  # misspelt: IMP001
        right = newer if newer != name.symbol else ""
        if ours and not seen and known is None:
            others = meant(name.symbol, version)
            since = release_of("first", others.names[0]) if others.sure else ""
            if others and not (since and (not version or older(version, since))):
                return None  # misspelt, and not too new: IMP001
            right = right or (others.names[0] if others else "")
        first = release_of("first", right or name.symbol) if ours else ""
        inner = ours and not first and "." in name.module and not name.module.startswith("transformers.models.")
        first = release_of("inner_first", name.symbol) if inner else first
        due = first if first and version and not older(version, first) and not right else ""
        if ours and not first and name.symbol in exported():
            due = "4.18 or an earlier release"
        where = culprit(failure)
        asked = f"`{where}` asks for it." if where else ""
        until = known.gone if known is not None and first else ""
        here = (f" and gone again from {until} on" if until else "") + (f", here is {version}" if version else "")
        releases = (f" (at least {first}" + (f", before {until})" if until else ")")) if first else ""
        upgrade = self.offer(
            "upgrade", f"pip install --upgrade {name.library.replace('_', '-')}{releases}", f"{THEN_RESTART}."
        )
        certainty = Certainty.LIKELY
        if right:
            title = f"`{name.symbol}` is written `{right}`, which is first in transformers {first}{here}"
            why = f"No release of transformers is known to write it so. {asked}"
        elif due:
            title = f"{f'{name.module} {version}'.strip()} has no `{name.symbol}`, which came with {due}: "
            title += "a missing package, or files of two releases"
            why = f"Optional names are left out where a package that they need is missing. {asked}"
            certainty = Certainty.POSSIBLE
        elif first:
            title = f"`{name.symbol}` is first in transformers {first}{here}: upgrade and restart the kernel"
            why = f"The installed release is older than this name. {asked}"
            # A module inside may have had the name before the library exported it.
            top = name.module == "transformers" or name.module.startswith("transformers.models")
            certainty = Certainty.CONFIRMED if seen and top else Certainty.LIKELY
        elif seen and seen["elsewhere"]:
            return None  # in another module: IMP022
        else:
            title = f"{name.module} {version} has no `{name.symbol}`".replace("  ", " ")
            title += ": misspelt, of another release, or of a missing package"
            why = f"tfdiag knows of no release of {name.library} that has it. {asked}"
            certainty = Certainty.POSSIBLE
        return self.found(
            title,
            certainty,
            what=f"Nothing in {name.module} is called so.",
            why=why.strip(),
            evidence=seen.seen,
            fixes=(upgrade,) if older(version, first or "0") or not (seen or due) else (),
        )


def _slips(symbol: str, other: str) -> int:
    return distance(symbol.lower(), other.lower())

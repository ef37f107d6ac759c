"""How often a guessed name is right: ``python benchmarks/names.py [SEED]``. Prints the table that docs/accuracy.md shows.

Slips: each public name of an owner with one letter put in, left out, changed or swapped with the next, half of them with one letter in the
wrong case besides. Words: names of other libraries (those that are installed here) asked of the same owners, where no guess may be sure.
"""

from __future__ import annotations

import importlib
import random
import string
import sys
from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from tfdiag_ipython.diagnosis import Certainty
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.probes.installed_symbols import names_of
from tfdiag_ipython.probes.nearest import guess
from tfdiag_ipython.registry import load_registry
from tfdiag_ipython.testing import PlainHost

MOST = 2000
"""Names of one owner that are misspelt."""
WORDS = {
    "in the table": ("numpy", "numpy:ndarray", "pandas:DataFrame", "keras:Model"),
    "not in it": (
        "polars:DataFrame", "polars:Expr", "xarray:Dataset", "PIL.Image:Image", "jax.numpy", "jax.lax", "cv2", "spacy.tokens:Doc",
        "gensim.models:Word2Vec", "networkx:Graph", "dask.bag:Bag", "lightgbm:Booster", "scipy.sparse:csr_matrix", "sympy:Symbol",
        "pathlib:Path", "collections:Counter", "datetime:datetime", "decimal:Decimal", "threading:Thread", "subprocess:Popen",
        "logging:Logger", "unittest:TestCase", "email.message:Message", "sqlite3:Connection", "tkinter:Text",
    ),
}  # fmt: skip


def owners() -> dict[str, Any]:
    """Things that names are asked of, by what they are called."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes))
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    return {
        "torch": torch,
        "torch.nn": torch.nn,
        "torch.nn.functional": torch.nn.functional,
        "transformers": transformers,
        "a tensor": torch.ones(1),
        "GPT2LMHeadModel": gpt,
        "BertForSequenceClassification": bert,
        "its output": bert(torch.ones(1, 2, dtype=torch.long)),
        "BertConfig": bert.config,
        "a tokenizer": transformers.PreTrainedTokenizerFast(tokenizer_object=words),
    }


def names(owner: Any) -> set[str]:
    known = names_of(owner) if isinstance(owner, ModuleType) else set(dir(owner))
    return {name for name in known if name[0] != "_"}


def slip(name: str, chance: random.Random) -> str:
    """The name with one slip of the fingers, and every other time a letter in the wrong case besides."""
    at, letter = chance.randrange(len(name)), chance.choice(string.ascii_lowercase)
    kind = chance.choice(("insert", "delete", "substitute", "transpose"))
    if kind == "insert":
        name = name[:at] + letter + name[at:]
    elif kind == "delete":
        name = name[:at] + name[at + 1 :]
    elif kind == "substitute":
        name = name[:at] + letter + name[at + 1 :]
    else:
        at = min(at, len(name) - 2)
        name = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    if chance.random() < 0.5 and name:
        at = chance.randrange(len(name))
        name = name[:at] + name[at].swapcase() + name[at + 1 :]
    return name


def slips(known: set[str], chance: random.Random) -> Counter[str]:
    counts: Counter[str] = Counter()
    names = sorted(name for name in known if len(name) >= 4)
    for name in chance.sample(names, k=min(len(names), MOST)):
        asked = slip(name, chance)
        if asked in known or not asked.isidentifier():
            continue
        found = guess(asked, known)
        right = name in found.names[:1] if found.sure else name in found.names
        if found.sure and not right:
            print(f"    {asked}: {found.names[0]} instead of {name}")
        kind = "confirmed" if found.sure else "asked" if found else "silent"
        counts[f"{kind}, {'right' if right else 'wrong'}" if found else kind] += 1
    return counts


def words(owner: Any, known: set[str], places: Iterable[str], engine: Engine) -> Counter[str]:
    counts: Counter[str] = Counter()
    asked: set[str] = set()
    for place, _, kind in (place.partition(":") for place in places):
        try:
            module = importlib.import_module(place)
        except ImportError:
            print(f"    skipped {place}: it is not installed here")
            continue
        asked |= {name for name in dir(getattr(module, kind) if kind else module) if name[0] != "_"}
    for word in sorted(asked - known):
        found = guess(word, known)
        best = found.names[0] if found else ""
        same = best.replace("_", "").lower() == word.replace("_", "").lower()
        sure = found.sure and confirmed(owner, word, engine)  # what is not sure is never confirmed
        if sure:
            print(f"    {word}: {best}")
        counts["the same word" if sure and same else "confirmed" if sure else "asked" if found else "silent"] += 1
    return counts


def confirmed(owner: Any, word: str, engine: Engine) -> bool:
    """Whether the failure, raised for real, is told to be a misspelling."""
    host = PlainHost()
    host.namespace["owner"] = owner
    failure = host.add(f"owner.{word}").failure
    found = engine.diagnose(failure, host.scene()) if failure else []
    return any(one.code in ("IMP001", "IMP018") and one.certainty is Certainty.CONFIRMED for one in found)


def main(seed: int) -> None:
    chance, engine = random.Random(seed), Engine(load_registry())
    for place, owner in owners().items():
        known = names(owner)
        print(f"{place}: {len(known)} names; slips {dict(slips(known, chance))}")
        for label, places in WORDS.items():
            print(f"    words of other libraries, {label}: {dict(words(owner, known, places, engine))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

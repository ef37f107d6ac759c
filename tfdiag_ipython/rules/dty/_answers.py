"""What to say of two dtypes that met, from what was seen, or from the message alone."""

from __future__ import annotations

import re

from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit
from tfdiag_ipython.rules.dty._names import dtype_named

METHODS = {"float32": ".float()", "float64": ".double()", "float16": ".half()", "bfloat16": ".bfloat16()"}
MADE = "numpy makes float64, torch float32 where nothing says otherwise; a model has the dtype it was loaded in."


def method_for(seen: Evidence) -> str:
    """What casts to the dtype of the model; empty where its dtypes are mixed."""
    if len(seen["dtypes"]) != 1:
        return ""
    return f".to({seen['model']}.dtype)" if seen["ready"] else METHODS.get(seen["dtypes"][0], "")


def answer(seen: Evidence) -> tuple[str, str]:
    """The title and what to do, from what was seen; empty where that does not show the cause."""
    if not seen:
        return "", ""
    if seen["operands"]:
        (one, first), *others = seen["operands"]
        other = next((pair for pair in others if pair[1] != first), None)
        if other is None:
            return "", ""
        return f"`{one}` is {first}, and `{other[0]}` is {other[1]}: cast one of them", f"`{other[0]}.to({one}.dtype)`."
    model = f"`{seen['model']}`" if seen["model"] else f"The {seen['kind']}"
    dtypes, weight, given = seen["dtypes"], seen["weight"], seen["given"]
    if seen["casts"] and len(dtypes) == 1:
        keyword, _, written, dtype = seen["casts"][0]
        method = method_for(seen)
        subject = f"`{written}`"
        if keyword.startswith("**"):
            subject, written = f"`{keyword[2:]}` in {subject}", f'{written}["{keyword[2:]}"]'
        if not re.fullmatch(r"[\w.]+|[\w.]+[(\[][^()\[\]]*[)\]]", written):
            written = f"({written})"
        title = f"{subject} is {dtype}, and {model} is {dtypes[0]}"
        if not dtype.startswith(("float", "bfloat")):
            return title, f"`{written}{method}` casts it, if these are amounts; ids belong to an embedding."
        return (
            f"{title}: write `{written}{method}`",
            "numpy makes float64, torch float32; a model has the dtype it was loaded in.",
        )
    if not weight or not given or weight == given:
        return "", ""
    layer = f"layer `{seen['layer']}`" if seen["layer"] else "layer"
    if len(dtypes) > 1 and given in dtypes:
        main = dtypes[0] if dtypes[0] != weight else given
        title = f"{model} is {main}, but its {layer} is {weight}: cast the whole model to one dtype"
        return title, f"For example `{seen['model'] or 'model'}.to(torch.{dtypes[0]})` once all its parts are in place."
    if not seen["layer"]:
        return "", ""
    return (
        f"The {layer} of {model} is {weight} and was given {given}: a step before it made that",
        f"{MADE} Make it with `dtype=x.dtype`, or cast it before this layer.",
    )


def told(hit: Hit, *, layer: bool) -> str:
    """The best answer that the message allows; ``layer``: as far as is known, a layer was given the other dtype."""
    pairs = (("one", "two"), ("input", "weight"), ("rnn", "gates"), ("has", "must"))
    for given, weight in pairs:
        if hit[given]:
            one, two = dtype_named(hit[given]), dtype_named(hit[weight])
            if not layer:
                return f"{one} and {two} met in one operation"
            return f"A layer in {two} was given {one}: cast the input to the model's dtype"
    for one, two in (("wanted", "found"), ("type", "other"), ("query", "key")):
        if hit[one]:
            cause = ": the model's dtype and its input's differ" if layer else ""
            return f"{dtype_named(hit[one])} and {dtype_named(hit[two])} met in one operation{cause}"
    if not layer:
        return "Two dtypes met in one operation"
    return "A layer was given a tensor of another dtype than its weights have: cast the input to the model's dtype"

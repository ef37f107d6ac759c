"""What a call goes to, in the words of ``changes.json``: ``TrainingArguments``, ``model`` (loading one), ``tokenizer.encode_plus`` …

A class of Transformers is known by its import, an object by the class that made it: ``AutoTokenizer.from_pretrained(…)`` gives a
*tokenizer*, a class of the person's that derives from ``Trainer`` a *trainer*. Where the program does not say it, the live variable may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.migrate.program import Program

if TYPE_CHECKING:
    import libcst as cst

_KINDS = (
    (re.compile(r"(?:Seq2Seq)?TrainingArguments$"), "arguments"),
    (re.compile(r"(?:Seq2Seq)?Trainer$"), "trainer"),
    (re.compile(r"\w*Tokenizer(?:Fast|Base)?$|TokenizersBackend$"), "tokenizer"),
    (re.compile(r"(?!BitsAndBytes|Generation|Quant)\w+Config$"), "config"),
    (re.compile(r"\w+(?:Processor|FeatureExtractor)(?:Fast)?$"), "processor"),
    (re.compile(r"\w+Cache$"), "cache"),
    (re.compile(r"BatchEncoding$"), "batch"),
    (re.compile(r"(?!TF|Flax)(?:AutoModel\w*$|\w+Model$|\w+For[A-Z]\w+$|\w+LMHeadModel$)"), "model"),
)
_SAME = frozenset({"to", "eval", "train", "half", "float", "bfloat16", "cuda", "cpu", "requires_grad_", "compile"})
"""Methods of a model that give the model."""
_PARTS = {
    ("pipeline", "tokenizer"): "tokenizer",
    ("pipeline", "model"): "model",
    ("trainer", "model"): "model",
    ("trainer", "tokenizer"): "tokenizer",
    ("model", "config"): "config",
    ("model", "base_model"): "model",
    ("processor", "tokenizer"): "tokenizer",
}
_SPOKEN_AS = {
    **{("tokenizer", method): ("tokenizer()",) for method in ("encode", "encode_plus", "batch_encode_plus")},
    **{(kind, "push_to_hub"): ("push_to_hub",) for kind in ("model", "tokenizer", "config", "processor", "trainer")},
}
"""Methods that take what another entry of ``changes.json`` speaks of."""
_OTHERS = {
    "trl.SFTTrainer": "SFTTrainer",
    "accelerate.Accelerator": "Accelerator",
    "torch.optim.AdamW": "torch.optim.AdamW",
}
"""Classes of other libraries that it speaks of."""
_DEPTH = 8
"""Steps from an expression to the class that made it; more are not followed."""


def kind_of_class(name: str) -> str:
    """The kind of object that a class of Transformers makes; empty where it is none that is spoken of."""
    return next((kind for pattern, kind in _KINDS if pattern.match(name)), "")


def kind_of_live(types: Mapping[str, str]) -> str:
    """The same for a live object, from the classes of its MRO (name → module)."""
    return next((kind_of_class(name) for name, module in types.items() if module.split(".")[0] == "transformers"), "")


class Calls:
    """Resolves calls and objects of a program; ``live`` holds the kinds of the variables that exist now."""

    def __init__(self, program: Program, live: Mapping[str, str]) -> None:
        self.program = program
        self.live = live
        self._assigned: dict[cst.ClassDef, Mapping[tuple[str, str], list[cst.BaseExpression]]] = {}

    def names(self, call: cst.Call) -> frozenset[str]:
        """The words for what this call goes to; none where it is not Transformers."""
        through = self.program.imported(call.func)
        if through == "functools.partial" and call.args:
            return self._of(call.args[0].value)
        if through == "dataclasses.replace" and call.args and self.kind(call.args[0].value) == "arguments":
            return frozenset({"TrainingArguments"})
        return self._of(call.func)

    def _of(self, func: cst.BaseExpression) -> frozenset[str]:
        """The words for what this expression, when it is called, goes to."""
        import libcst as cst

        found = self.class_of(func, 0)
        if found:
            return _words(found)
        if self.program.imported(func).split(".")[0] == "huggingface_hub":
            return frozenset({"huggingface_hub"})
        if isinstance(func, cst.Attribute):
            method = func.attr.value
            owner = self.class_of(func.value, 0)
            if owner:
                return _loading(kind_of_class(owner), owner) if method == "from_pretrained" else frozenset()
            kind = self.kind(func.value)
            return frozenset({f"{kind}.{method}", *_SPOKEN_AS.get((kind, method), ())}) if kind else frozenset()
        kind = self.kind(func)
        return frozenset({f"{kind}()"}) if kind else frozenset()

    def kind(self, node: cst.BaseExpression, depth: int = 0) -> str:
        """The kind of object that an expression gives; empty where it is not known."""
        import libcst as cst

        if depth > _DEPTH:
            return ""
        if isinstance(node, cst.Call):
            return self._made(node, depth + 1)
        if isinstance(node, cst.Attribute):
            own = self._of_self(node, depth + 1)
            return own or _PARTS.get((self.kind(node.value, depth + 1), node.attr.value), "")
        if not isinstance(node, cst.Name) or self.program.imported(node):
            return ""
        bound = self.program.bindings(node)
        kinds = {self._bound(target, depth + 1) for target in bound} - {"none"}
        if len(kinds) == 1 and "" not in kinds:
            return kinds.pop()
        return self.live.get(node.value, "") if self.program.is_global(node) and kinds <= {""} else ""

    def _of_self(self, node: cst.Attribute, depth: int) -> str:
        """The kind of ``self.name`` in a method: what every assignment to it in this class gives; empty where they differ."""
        import libcst as cst

        made = self.program.above(node, cst.ClassDef)
        if made is None or not isinstance(node.value, cst.Name):
            return ""
        values = self._attributes(made).get((node.value.value, node.attr.value), [])
        kinds = {self.kind(value, depth) for value in values if not _is_none(value)}
        return kinds.pop() if len(kinds) == 1 else ""

    def _attributes(self, made: cst.ClassDef) -> Mapping[tuple[str, str], list[cst.BaseExpression]]:
        """What the methods of a class assign to their first parameter's attributes, by its name and theirs."""
        import libcst as cst

        if made not in self._assigned:
            found: dict[tuple[str, str], list[cst.BaseExpression]] = {}
            for target in self.program.nodes(cst.AssignTarget):
                attribute = target.target
                if not isinstance(attribute, cst.Attribute) or not isinstance(attribute.value, cst.Name):
                    continue
                method = self.program.above(target, cst.FunctionDef)
                if method is None or self.program.above(method, cst.ClassDef) is not made or not method.params.params:
                    continue
                if method.params.params[0].name.value == attribute.value.value:
                    name = (attribute.value.value, attribute.attr.value)
                    assigned = cst.ensure_type(self.program.parent(target), cst.Assign)
                    found.setdefault(name, []).append(assigned.value)
            self._assigned[made] = found
        return self._assigned[made]

    def _made(self, call: cst.Call, depth: int) -> str:
        """The kind of what a call returns."""
        import libcst as cst

        found = self.class_of(call.func, depth)
        if found:
            return "pipeline" if found == "pipeline" else kind_of_class(found)
        if isinstance(call.func, cst.Attribute):
            method = call.func.attr.value
            owner = self.class_of(call.func.value, depth)
            if owner and method in {"from_pretrained", "from_config"}:
                return kind_of_class(owner)
            kind = self.kind(call.func.value, depth)
            if kind == "tokenizer" and method in {"encode_plus", "batch_encode_plus"}:
                return "batch"
            return kind if kind == "model" and method in _SAME else ""
        if self.kind(call.func, depth) == "tokenizer":
            return "batch"
        kinds = {self.kind(value, depth) for value in returned(self.program, call.func)}
        return kinds.pop() if len(kinds) == 1 else ""

    def class_of(self, node: cst.BaseExpression, depth: int = 0) -> str:
        """The class or function of Transformers that an expression names, or from which a class of the person's derives."""
        import libcst as cst

        name = self.program.imported(node)
        if name:
            module, _, last = name.rpartition(".")
            known = module.split(".")[0] == "transformers" and (last[:1].isupper() or last == "pipeline")
            if known and not _inside_class(module):
                return last
            return _OTHERS.get(name, "")
        if not isinstance(node, cst.Name) or depth > _DEPTH:
            return ""
        for bound in self.program.bindings(node):
            if isinstance(bound, cst.ClassDef):
                found = (self.class_of(base.value, depth + 1) for base in bound.bases)
                return next(filter(None, found), "")
        return ""

    def _bound(self, target: cst.CSTNode, depth: int) -> str:
        """The kind of what a binding gives its name; ``"none"`` for ``None``."""
        import libcst as cst

        if isinstance(target, cst.Param):
            return self._annotated(target.annotation)
        parent = self.program.parent(target)
        if isinstance(parent, cst.Element):
            values = list(self._unpacked(parent))
        elif isinstance(parent, cst.AssignTarget):
            statement = self.program.parent(parent)
            values = [statement.value] if isinstance(statement, cst.Assign) else []
        else:
            values = [parent.value] if isinstance(parent, cst.AnnAssign) and parent.value is not None else []
        if values and all(map(_is_none, values)):
            return "none"
        kinds = {self.kind(value, depth) for value in values}
        return kinds.pop() if len(kinds) == 1 else ""

    def _unpacked(self, element: cst.Element) -> Iterator[cst.BaseExpression]:
        """What may be given to one name of ``a, b = x, y``, or of ``a, b = f()`` with what ``f`` returns; nothing if unknown."""
        import libcst as cst

        names = self.program.parent(element)
        assign = self.program.above(element, cst.Assign)
        if not isinstance(names, cst.Tuple) or assign is None:
            return
        place = list(names.elements).index(element)
        given = returned(self.program, assign.value.func) if isinstance(assign.value, cst.Call) else [assign.value]
        if all(isinstance(value, cst.Tuple) and len(value.elements) == len(names.elements) for value in given):
            yield from (cst.ensure_type(value, cst.Tuple).elements[place].value for value in given)

    def _annotated(self, annotation: cst.Annotation | None) -> str:
        return kind_of_class(self.class_of(annotation.annotation, 0)) if annotation is not None else ""


def returned(program: Program, func: cst.BaseExpression) -> list[cst.BaseExpression]:
    """The values that a plain function of the program returns; none where it is not at hand, or also something else is."""
    import libcst as cst

    bound = program.bindings(func) if isinstance(func, cst.Name) else []
    made = bound[0] if len(bound) == 1 else None
    if not isinstance(made, cst.FunctionDef) or made.asynchronous is not None or made.decorators:
        return []
    own = [node for node in program.nodes(cst.Return) if program.above(node, cst.FunctionDef) is made]
    if any(program.above(node, cst.FunctionDef) is made for node in program.nodes(cst.Yield)):
        return []
    values = [node.value for node in own if node.value is not None]
    return values if len(values) == len(own) else []


def _is_none(node: cst.BaseExpression) -> bool:
    return getattr(node, "value", "") == "None"


def _inside_class(module: str) -> bool:
    """Whether a dotted name leads through a class: ``transformers.AutoModel.from_pretrained`` names a method."""
    return any(part[:1].isupper() for part in module.split("."))


def _words(name: str) -> frozenset[str]:
    """The words for calling a class or function itself."""
    if kind_of_class(name) == "arguments":
        return frozenset({"TrainingArguments"})
    if kind_of_class(name) == "trainer":
        return frozenset({"Trainer"})
    return frozenset({name})


def _loading(kind: str, owner: str) -> frozenset[str]:
    """The words for ``owner.from_pretrained``: what silently ignores an argument is spoken of as *auto class*."""
    if kind == "model":
        return frozenset({"model"})
    return frozenset({"auto class"}) if kind in {"tokenizer", "config", "processor"} else frozenset()

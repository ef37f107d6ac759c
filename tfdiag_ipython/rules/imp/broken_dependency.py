from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule

_KNOWN = (
    (
        r"torch\._six",
        "a package that it imports needs torch below 2 (torch._six is gone)",
        "Upgrade deepspeed or apex.",
    ),
    (r"google\.protobuf|protobuf", "protobuf does not fit the package that uses it", "pip install --upgrade protobuf"),
    (
        r"Keras 3|tf.keras|metric with the same name|keras",
        "the TensorFlow or Keras beside it is broken",
        "pip uninstall tensorflow keras",
    ),
    (r"numpy|_ARRAY_API", "NumPy does not fit a compiled package", "pip install 'numpy<2'"),
    (r"flash_attn|undefined symbol", "flash-attn was built for another torch", "pip uninstall flash-attn"),
    (r"torchvision::nms|torchvision", "torchvision does not fit torch", "pip install --upgrade torch torchvision"),
    (
        r"bitsandbytes|libcudart|libcusparse|CUDA Setup",
        "bitsandbytes finds no CUDA libraries",
        "pip install --upgrade bitsandbytes",
    ),
    (r"peft", "peft does not fit transformers", "pip install --upgrade peft"),
)


class BrokenDependency(Rule):
    """A part of Transformers cannot be imported because something that it imports fails.

    *What it means*
    Transformers loads its modules when they are first used; one of them failed on import. The reason is one level down.

    *Why it happens*
    A package beside it is broken or does not fit: flash-attn built for another torch, TensorFlow or Keras half
    installed, NumPy 2 under packages compiled for NumPy 1, protobuf, torchvision.

    *How tfdiag confirms it*
    It reads the cause out of the chain (or of the message) and names it first. A live chain that holds the cause is
    proof.

    *Fixes and their safety*
    `repair` is shown only: which of the packages is to go depends on what else uses them.

    *Example*
    `from transformers import Trainer` beside a broken accelerate.

    *References*
    transformers: `utils/import_utils.py`, `_LazyModule._get_module`.
    """

    code = "IMP007"
    name = "broken-dependency"
    raised = ("builtins.RuntimeError", "builtins.ImportError")
    message = re.compile(
        r"Failed to import (?P<module>transformers[\w.]*|diffusers[\w.]*) because of the following "
        r"error[^\n]*(?:\n+(?P<cause>[^\n]+))?"
        r"|Could not import module '(?P<symbol>\w+)'\. Are this object's requirements defined correctly\?"
    )
    needs = (PackageVersionsProbe,)
    fixes = (Offer("repair", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text="RuntimeError: Failed to import transformers.trainer because of the following error (look up to see "
            "its traceback):\n"
            "No module named 'torch._six'",
            certainty=Certainty.LIKELY,
            title="transformers.trainer cannot be imported: a package that it imports needs torch below 2",
            fixes=("repair",),
        ),
        Match(
            text="ModuleNotFoundError: Could not import module 'Trainer'. Are this object's requirements defined "
            "correctly?",
            certainty=Certainty.LIKELY,
            title="`Trainer` cannot be imported",
        ),
        NoMatch(text="RuntimeError: Failed to import mylib.core because of the following error: x"),
        NoMatch(text="ImportError: Could not import module 'Foo'"),
        Reproduce(
            (
                "import pathlib, sys, tempfile\nfolder = pathlib.Path(tempfile.mkdtemp())\n"
                "(folder / 'accelerate').mkdir()\n"
                "(folder / 'accelerate' / '__init__.py').write_text(\"import accelerate_half_missing\")\n"
                "info = folder / 'accelerate-9.9.dist-info'\ninfo.mkdir()\n"
                "(info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: accelerate\\nVersion: 9.9\\n')\n"
                "sys.path.insert(0, str(folder))",
                "from transformers import Trainer",
            ),
            title="`Trainer` cannot be imported: No module named 'accelerate_half_missing'",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        what = hit["module"] or f"`{hit['symbol']}`"
        below = [raised for raised in failure.chain[hit.position + 1 :] if not self.message.search(raised.message)]
        cause = below[-1].message if below else hit["cause"]
        first = cause.strip().splitlines()[0].strip()[:110] if cause.strip() else ""
        known = next(((reason, cure) for pattern, reason, cure in _KNOWN if re.search(pattern, cause)), None)
        reason = (
            known[0]
            if known
            else first or "something that it imports fails (the cause stands higher up in the traceback)"
        )
        fixes = (self.offer("repair", known[1], f"{THEN_RESTART}."),) if known else ()
        return self.found(
            f"{what} cannot be imported: {reason}",
            Certainty.CONFIRMED if below and not failure.stored else Certainty.LIKELY,
            what=f"Importing {what} failed with: {first or 'an error that this text does not hold'}.",
            why="Transformers is whole; a package beside it is not, or does not fit.",
            evidence=evidence[PackageVersionsProbe.name].seen,
            fixes=fixes,
        )

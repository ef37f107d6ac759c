from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule


class NumpyAbi(Rule):
    """A compiled package, often torch itself, was built for NumPy 1 and meets NumPy 2.

    *What it means*
    Compiled code depends on NumPy's binary layout, which changed with 2.0: torch then works without NumPy, or an import
    fails.

    *Why it happens*
    Installing another package brought NumPy 2 beside a torch older than 2.3, or the other way round.

    *How tfdiag confirms it*
    It compares the installed NumPy and torch; in stored text the message alone speaks.

    *Fixes and their safety*
    `fit-numpy` is shown only: other packages may need the NumPy that is there.

    *Example*
    `torch.rand(1).numpy()` with torch 2.2 and NumPy 2.1: "Numpy is not available".

    *References*
    NumPy: "NumPy 2.0 migration guide", ABI.
    """

    code = "IMP012"
    name = "numpy-abi"
    kinds = ("exception", "warning")
    message = re.compile(
        r"A module that was compiled using NumPy 1\.x cannot be run in\s+NumPy (?P<numpy>[\d.]+\d)"
        r"|(?P<torch>Numpy is not available)"
        r"|(?P<array>numpy\.(?P<underscore>_?)core\.multiarray failed to import)"
        r"|(?P<layout>numpy\.\w+ size changed, may indicate binary incompatibility)"
        r"(?:\. Expected (?P<built>\d+) from C header, got (?P<here>\d+) from PyObject)?"
    )
    needs = (PackageVersionsProbe,)
    fixes = (Offer("fit-numpy", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text="A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.1.3 as it may crash.",
            certainty=Certainty.LIKELY,
            title="NumPy 2.1.3",
            fixes=("fit-numpy",),
        ),
        Match(  # pandas 2.0.3 under NumPy 2.2.6
            text='Traceback (most recent call last):\n  File "t.py", line 1, in <module>\n    import pandas\n'
            '  File "/env/lib/python3.11/site-packages/pandas/_libs/__init__.py", line 13, in <module>\n'
            "    from pandas._libs.interval import Interval\n"
            '  File "pandas/_libs/interval.pyx", line 1, in init pandas._libs.interval\n'
            "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject",
            certainty=Certainty.LIKELY,
            title="pandas was built for NumPy 1, here is NumPy 2",
        ),
        Match(
            text="ValueError: numpy.ndarray size changed, may indicate binary incompatibility. Expected 88 from C header, got 80 from PyObject",
            title="A compiled package was built for a later NumPy than is installed",
        ),
        Reproduce(
            ("import numexpr",),
            needs=("numexpr<2.9", "numpy>=2"),  # its extension was built for NumPy 1
            title=r"numexpr was built for NumPy 1, here is NumPy 2\.",
            certainty=Certainty.LIKELY,
        ),
        Match(
            text="ImportError: numpy.core.multiarray failed to import",
            certainty=Certainty.LIKELY,
            title="A compiled package was built for another NumPy than is installed",
        ),
        Match(
            text="ImportError: numpy._core.multiarray failed to import",
            title="A compiled package was built for a later NumPy than is installed: upgrade NumPy",
        ),
        Match(text="RuntimeError: Numpy is not available", title="torch was built for another NumPy"),
        NoMatch(text="ModuleNotFoundError: No module named 'numpy'"),
        NoMatch(text="ImportError: Unable to import required dependencies: numpy"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[PackageVersionsProbe.name]
        number = hit["numpy"] or (seen["packages"]["numpy"]["installed"] if seen else "")
        fixes = True
        later = hit["layout"] and (hit["built"], hit["here"]) not in {("96", "88"), ("", "")}
        if hit["array"]:  # what was built for NumPy 2 asks for `_core`; with 1 installed, the package wants a later 1
            later = bool(hit["underscore"]) or number.startswith("1.")
        if hit["torch"]:
            title = "torch was built for another NumPy than is installed, or NumPy is missing"
            title += f" (here: NumPy {number})" if number else ""
        elif hit["array"] and not later and not number:
            title, fixes = f"{_package(failure)} was built for another NumPy than is installed: upgrade it", False
        elif later:
            title = f"{_package(failure)} was built for a later NumPy than is installed{f' ({number})' if number else ''}: upgrade NumPy"
            fixes = False
        else:
            title = (
                f"{_package(failure)} was built for NumPy 1, here is NumPy {number or '2'}: upgrade it, or use numpy<2"
            )
        fix = self.offer(
            "fit-numpy", "pip install 'numpy<2'", f"Or upgrade torch and the package named. {THEN_RESTART}."
        )
        return self.found(
            title,
            Certainty.LIKELY,
            what="Compiled code and NumPy do not fit together.",
            why="NumPy 2 changed its binary layout.",
            evidence=seen.seen,
            fixes=(fix,) if fixes else (),
        )


def _package(failure: Failure) -> str:
    """The compiled package that was being imported: the innermost one of the traceback."""
    frames = (re.search(r"(?:[/\\]site-packages[/\\]|^)(\w+)[/\\]", frame.file) for frame in reversed(failure.frames))
    return next((found[1] for found in frames if found), "A compiled package")

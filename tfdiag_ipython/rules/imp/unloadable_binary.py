from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule

FAMILY = re.compile(
    r"(?:^|(?<!paddlenlp)[/\\\s\"'(])(?P<package>flash_attn\w*|bitsandbytes|xformers|deepspeed|tokenizers|safetensors|torchvision|torchaudio"
    r"|torch_\w+|torch|accelerate|peft|sentence_transformers|transformers)[/\\]"
)


class UnloadableBinary(Rule):
    """A compiled part of torch, or of a package built upon it, cannot be loaded.

    *What it means*
    Python found the package; the system's loader did not find a library that its compiled part needs, or found one without the function
    that it was built for.

    *Why it happens*
    The package was built for another torch or another CUDA than the one installed; two installations (pip and conda) lie over each other; on
    Windows the Visual C++ runtime is missing.

    *How tfdiag confirms it*
    It reads the library's name from the message, and from the traceback which package was being loaded.

    *Fixes and their safety*
    `reinstall` is shown only: torch and what is built for it must be replaced together.

    *Example*
    `ImportError: libcudart.so.12: cannot open shared object file` while flash_attn is imported.

    *References*
    PyTorch: previous versions, and the tables of torchvision and torchaudio that fit them; `ld.so(8)`.
    """

    code = "IMP013"
    name = "unloadable-binary"
    raised = ("builtins.ImportError", "builtins.OSError", "builtins.RuntimeError")
    message = re.compile(
        r"(?P<library>lib(?:cu|nv|nccl|torch|c10|mkl|hip|roc|stdc\+\+|GLIBCXX)[\w.+-]{0,120}?\.so[.\d]{0,20}): cannot open shared"
        r"|(?<![^\s:])(?P<binary>[^\s:]+\.so[.\d]*): undefined symbol: (?P<symbol>\w+)"
        r"|WinError (?P<windows>126|127|182|193|1114)\b[^\n]{0,400}?Error loading \"(?P<dll>[^\"\n]+)\""
        r"|DLL load failed(?: while importing (?P<extension>\w+))?"
        r"|operator (?P<operator>torchvision::\w+) does not exist"
    )
    needs = (PackageVersionsProbe,)
    fixes = (Offer("reinstall", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text='Traceback (most recent call last):\n  File "/x/flash_attn/flash_attn_interface.py", line 10, in <module>\n'
            "    import flash_attn_2_cuda\nImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
            certainty=Certainty.LIKELY,
            title="flash_attn .*libcudart.so.12",
            fixes=("reinstall",),
        ),
        Reproduce(
            (
                "import pathlib, sys, tempfile\nsite = pathlib.Path(tempfile.mkdtemp(), 'site-packages')\n"
                "(site / 'flash_attn').mkdir(parents=True)\n"
                "(site / 'flash_attn/__init__.py').write_text('import ctypes\\nctypes.CDLL(\"libcudart.so.99\")')",
                "sys.path.insert(0, str(site))\ntry:\n    import flash_attn\nfinally:\n    sys.path.pop(0)",
            ),
            certainty=Certainty.LIKELY,
            title=r"flash_attn cannot be loaded: libcudart\.so\.99 is not found",
        ),
        Match(
            text="ImportError: /x/site-packages/flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: _ZN3c10",
            title="another torch",
        ),
        Match(
            text='OSError: [WinError 127] The specified procedure could not be found. Error loading "C:\\x\\torch\\lib\\shm.dll" or one of its '
            "dependencies.",
            title="shm.dll",
        ),
        Match(text="RuntimeError: operator torchvision::nms does not exist", title="torchvision"),
        NoMatch(text="ImportError: libGL.so.1: cannot open shared object file: No such file or directory"),
        NoMatch(text="ImportError: DLL load failed while importing _sqlite3: The specified module could not be found."),
        NoMatch(text="ImportError: /x/cv2/cv2.abi3.so: undefined symbol: _ZdlPv"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        package = "torchvision" if hit["operator"] else _package(failure, hit)
        if not package:
            return None  # another program's library
        seen = evidence[PackageVersionsProbe.name]
        if hit["operator"]:
            reason = "it was built for another torch than the one installed"
        elif hit["symbol"]:
            reason = f"it was built for another torch or CUDA (`{hit['symbol'][:60]}` is missing)"
        elif hit["library"]:
            reason = (
                f"{hit['library']} is not found: it was built for another CUDA, or CUDA's libraries are not installed"
            )
        else:
            name = re.split(r"[/\\]", hit["dll"])[-1] or hit["extension"] or "a DLL"
            reason = f"{name}, or a DLL that it needs, is not found (the Visual C++ runtime, or a mixed installation)"
        fix = self.offer("reinstall", f"Install {package} anew, for the torch that is here", f"{THEN_RESTART}.")
        return self.found(
            f"The compiled part of {package} cannot be loaded: {reason}",
            Certainty.LIKELY,
            what="The system's loader refused it before any of its Python code ran.",
            why="Install torch and what is built for it (torchvision, flash-attn, bitsandbytes) together, in one environment, from one source.",
            evidence=seen.seen,
            fixes=(fix,),
        )


def _package(failure: Failure, hit: Hit) -> str:
    """The package whose file was named or was being imported last; empty where none of torch's family is in sight."""
    named = FAMILY.search(hit["binary"] or hit["dll"])
    if named:
        return named["package"]
    stem = re.split(r"[/\\]", hit["binary"])[-1].split(".")[0]
    if re.match(r"flash_attn|torch|transformer_engine|bitsandbytes|exllama|xformers|awq|apex", stem):
        return stem
    files = [frame.file for frame in hit.raised.frames]
    found = next((match for file in reversed(files) if (match := FAMILY.search(file))), None)
    last = re.search(r"(?:site|dist)-packages[/\\](?P<package>\w+)[/\\]", files[-1]) if files else None
    return (last or found)["package"] if found else ""  # transformers may import another package's binary

"""What tfdiag costs, as ratios measured in one run: ``make bench`` or ``python benchmarks/run.py``.

Absolute times depend on the machine and are printed beside the ratios only to read them by.
"""

from __future__ import annotations

import functools
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import tfdiag_ipython
from tfdiag_ipython.diagnosis import Certainty
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rule import Rule

SHELL = "from IPython.core.interactiveshell import InteractiveShell as S\ns = S.instance()\n"
LOAD = "s.run_line_magic('load_ext', 'tfdiag_ipython')\n"
CELLS = """
import io, contextlib, time
def cost(source, rounds):
    times = []
    for _ in range(rounds):
        with contextlib.redirect_stdout(io.StringIO()):
            started = time.perf_counter()
            s.run_cell(source)
            times.append(time.perf_counter() - started)
    return sorted(times)
"""


def child(code: str) -> float:
    """Seconds that a fresh interpreter prints last."""
    return printed(code)[-1]


def printed(code: str) -> list[float]:
    """The numbers on the last line that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.strip().splitlines()[-1].split()]


def paired(first: str, second: str, rounds: int) -> tuple[float, float]:
    """Medians of two programs run in turn, so that a drift of the machine meets both."""
    times = [(child(first), child(second)) for _ in range(rounds)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def loading() -> None:
    clock = "import time; t = time.perf_counter()\n"
    stop = "print(time.perf_counter() - t)"
    bare, loaded = paired(clock + SHELL + stop, clock + SHELL + LOAD + stop, 11)
    show("load over bare IPython", bare, loaded)


def succeeding_cell() -> None:
    measure = CELLS + "print(cost('1', 2000)[1000])"
    bare, loaded = paired(SHELL + measure, SHELL + LOAD + measure, 7)
    show("a cell that succeeds", bare, loaded)


def failing_cell() -> None:
    setup = "import transformers\n"
    source = "'from transformers import AutoModelForSequenceClasification'"
    # the rules are loaded beside the program when the loading cell has ended
    load = "s.run_cell('%load_ext tfdiag_ipython')\ns.run_cell('1')\nimport time; time.sleep(2)\n"
    for label, pick in (("first failing cell", "cost({0}, 1)[0]"), ("later failing cell, median", "cost({0}, 41)[20]")):
        measure = setup + CELLS + f"print({pick.format(source)})"
        bare, loaded = paired(SHELL + measure, SHELL + load + measure, 5)
        show(f"raise to displayed diagnosis: {label}", bare, loaded)


def failed_imports() -> None:
    """What a failed import costs in a kernel that has loaded torch and transformers, and what the diagnosis loads of them."""
    setup = "import torch, transformers\nfrom transformers import BertModel\n" + CELLS
    load = "s.run_cell('%load_ext tfdiag_ipython')\ns.run_cell('1')\nimport time; time.sleep(2)\n"
    imports = (
        "from transformers import AutoModelForSequenceClasification",
        "from transformers import Qwen9ForCausalLM",
        "from transformers import AdamW",
        "import einops",
        "from transformers.modeling_bert import BertModel",
    )
    measure = f"for source in {imports!r}: cost(source, 1)\nprint(max(cost(source, 41)[38] for source in {imports!r}))"
    show(
        "failed import, slowest of five kinds, p95", *paired(SHELL + setup + measure, SHELL + load + setup + measure, 1)
    )
    held = "import sys\ndef held(): return sum(n.startswith('transformers') for n in sys.modules) + len(vars(transformers))\n"
    measure = f"{held}before = held()\ncost({imports[0]!r}, 1)\nprint(held() - before)"
    bare, loaded = paired(SHELL + setup + measure, SHELL + load + setup + measure, 1)
    print(
        f"names and modules of transformers that a misspelt import loads: {bare:.0f}, with tfdiag {loaded:.0f}",
        flush=True,
    )


def matching() -> None:
    texts = [
        Failure.from_text(f"ValueError: {noise} fault number 7 of kind alpha") for noise in ("some", "other " * 40)
    ]
    few, many = _registry(50), _registry(1000)
    for registry in (few, many):
        registry.match(texts[0])  # builds the index
    times = [
        (timed(lambda: [few.match(t) for t in texts]), timed(lambda: [many.match(t) for t in texts])) for _ in range(31)
    ]
    show("matching, 1,000 rules against 50", *(statistics.median(column) for column in zip(*times, strict=True)))


def padding_watch() -> None:
    """Calls of a BERT with and without the watch of ``%%tfdiag``, in turn: at most 1 % of BERT-base, 5 µs a call of two layers."""
    import torch
    from transformers import BertConfig, BertModel

    base, small = BertModel(BertConfig()).eval(), BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2)
    ids = torch.ones((8, 128), dtype=torch.long)
    plain, watched = watching(functools.partial(base, input_ids=ids), 9, 1)
    show("padding watch, BERT-base, 8 × 128", plain, watched)
    small.num_attention_heads, small.intermediate_size = 2, 64
    model, ids = BertModel(small).eval(), torch.ones((1, 8), dtype=torch.long)
    padded = torch.where(torch.arange(8) < 5, ids, 0)
    with torch.no_grad():
        call = statistics.median(each(functools.partial(model, input_ids=ids), 20) for _ in range(21))
    model.forward = lambda **_: None  # a few microseconds cannot be seen beside a forward pass's own noise
    for kind, inputs in (
        ("no mask", {"input_ids": ids}),
        ("mask", {"input_ids": ids, "attention_mask": torch.ones_like(ids)}),
        ("padding and mask", {"input_ids": padded, "attention_mask": (padded != 0).long()}),
    ):
        plain, watched = watching(functools.partial(model, **inputs), 41, 1000)
        show(f"padding watch, {kind}, two layers, 1 × 8", call, call + watched - plain)
        print(f"{'':55} {1e6 * (watched - plain):6.1f} µs a call", flush=True)


def watching(call: Callable[[], object], rounds: int, calls: int) -> tuple[float, float]:
    """Seconds of a call without and with the padding watch, in turn: medians."""
    import torch

    from tfdiag_ipython.probe import Scene
    from tfdiag_ipython.watch.padding import PaddingWatch

    plain, watched = [], []
    with torch.no_grad():
        for _ in range(rounds):
            plain.append(each(call, calls))
            watch = PaddingWatch()
            watch.start()
            watched.append(each(call, calls))
            watch.stop(Scene())
    return statistics.median(plain), statistics.median(watched)


def index_guard() -> None:
    """A forward of a BERT-base, 8 × 128, under the index guard: at most 3 % on a CPU. On a GPU see ``gpu.py``.

    What the guard adds is measured on as many layers that compute next to nothing: it would be lost in a real forward's own noise.
    """
    import torch
    from transformers import BertConfig, BertModel

    ids = torch.ones((8, 128), dtype=torch.long)
    base = BertModel(BertConfig()).eval()
    small = BertModel(BertConfig(hidden_size=4, num_attention_heads=1, intermediate_size=4)).eval()
    forward = statistics.median(each(lambda: base(ids), 1) for _ in range(5))
    plain, guarded = [], []
    with torch.no_grad():
        for _ in range(41):
            plain.append(each(lambda: small(ids), 3))
            with tfdiag_ipython.guard():
                guarded.append(each(lambda: small(ids), 3))
    added = statistics.median(guarded) - statistics.median(plain)
    show("index guard, BERT-base, 8 × 128", forward, forward + added)


def noted_cell() -> None:
    """What the note for the case of a kill costs a cell in a kernel; a shell without a kernel keeps none by itself."""
    keep = (
        "import pathlib, tempfile\nfrom tfdiag_ipython.shell.crumb import Crumb\n"
        "from tfdiag_ipython.shell.extension import extension_of\n"
        "extension_of(s).handover.crumb = Crumb(pathlib.Path(tempfile.mkdtemp(), 'kernel-1.tfdiag'))\n"
    )
    measure = CELLS + "print(cost('1', 2000)[1000])"
    without, noted = paired(SHELL + LOAD + measure, SHELL + LOAD + keep + measure, 7)
    show("a cell that succeeds, noted for the case of a kill", without, noted)


FREES = """
import torch
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.host_memory import resident
from tfdiag_ipython.shell.extension import extension_of
def step(rows):
    hidden = [torch.ones(2**20) for _ in range(rows)]
    return torch.empty(2**46)
def click():
    session = extension_of(s).last
    plan = session.plan(session.diagnoses[0], session.diagnoses[0].fix('free-failed-cell'))
    session.apply(plan, Progress())
s.user_ns['step'] = step
import io, contextlib
with contextlib.redirect_stdout(io.StringIO()):
    s.run_cell('step(1)')
    click()
    before = resident()
    s.run_cell('step(100)')
    held = resident()
    click()
    after = resident()
"""


def freed_memory() -> None:
    """Resident memory of a process with a failed cell that holds 400 MiB, and after the button, over what it was before the cell."""
    ratios = [
        (child(SHELL + LOAD + FREES + "print(held / before)"), child(SHELL + LOAD + FREES + "print(after / before)"))
        for _ in range(3)
    ]
    for label, column in zip(("held by the failed cell", "after the button"), zip(*ratios, strict=True), strict=True):
        print(f"resident memory, {label:38} ratio {statistics.median(column):5.2f}", flush=True)


def memory_ledger() -> None:
    """The quick look after a shortage, at a BERT-base with gradients and AdamW's state, against one forward pass of it."""
    import torch
    from transformers import BertConfig, BertModel

    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.probe import Scene
    from tfdiag_ipython.probes.memory import MemoryProbe

    model = BertModel(BertConfig())
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.ones((8, 128), dtype=torch.long)
    model(ids).last_hidden_state.sum().backward()
    optimizer.step()
    failure, names = Failure.from_text("MemoryError"), {"model": model, "optimizer": optimizer, "ids": ids}
    with torch.no_grad():
        forward = each(lambda: model(ids), 5)
    show(
        "memory ledger over a BERT-base's forward",
        forward,
        each(lambda: MemoryProbe().look(failure, Scene(names, live=True)), 5),
    )


def each(work: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - started) / calls


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(20):
        work()
    return (time.perf_counter() - started) / 20


def _registry(count: int) -> Registry:
    def diagnose(self: Rule, *_: object) -> object:
        return self.found("fits", Certainty.LIKELY)

    rules = []
    for number in range(count):
        pattern = re.compile(rf"fault number {number} of kind (?P<kind>\w+)")
        values = {"code": f"BEN{number:03d}", "name": f"bench-{number}", "message": pattern, "diagnose": diagnose}
        rules.append(type(f"Bench{number}", (Rule,), values)())
    return Registry(rules)


def show(label: str, base: float, measured: float) -> None:
    print(f"{label:55} ratio {measured / base:5.2f}   ({base * 1e3:9.3f} ms → {measured * 1e3:9.3f} ms)", flush=True)


if __name__ == "__main__":
    loading()
    succeeding_cell()
    noted_cell()
    failing_cell()
    failed_imports()
    matching()
    padding_watch()
    index_guard()
    freed_memory()
    memory_ledger()

"""The fix of a missing mask is believed only when the mask was seen to arrive in the calls."""

import pytest

from tfdiag_ipython.diagnosis import Status
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.registry import load_registry
from tfdiag_ipython.rules.pad._examples import SETUP
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
pytest.importorskip("transformers")


def fixed(*cells):
    """How the fix ends in a notebook with these cells, and the notebook."""
    host = PlainHost()
    for source in (SETUP, *cells):
        assert host.add(source).failure is None
    registry = load_registry()
    failure = registry.probes()["padding"]().ask("model batch", host.scene()).finding
    (diagnosis,) = Engine(registry).diagnose(failure, host.scene())
    plan = Engine(registry).plan(diagnosis, diagnosis.fixes[0], host.scene(), failure)
    plan.execute(Progress())
    return plan.verify(Progress()), host


def test_what_depends_on_the_outputs_runs_again_and_what_does_not_is_left():
    verification, host = fixed(
        "runs = []",
        'logits = model(batch["input_ids"]).logits',
        "answers = logits.argmax(-1); runs.append(1)",
        "unrelated = runs.append(2)",
    )
    assert verification.status is Status.VERIFIED and "Measured again" in verification.detail
    assert host.namespace["runs"] == [1, 2, 1]


def test_a_call_that_still_passes_no_mask_is_seen():
    verification, _ = fixed(
        "def ask(network, rows): return network(rows)",
        'logits = model(batch["input_ids"]).logits; ask(model, batch["input_ids"])',
    )
    assert verification.status is Status.STILL_FAILING and "a call still gives another answer" in verification.detail


def test_without_a_call_nothing_is_claimed():
    verification, _ = fixed('for rows in []:\n    model(batch["input_ids"])')
    assert verification.status is Status.NOT_CHECKED


def test_what_was_too_slow_is_measured_at_the_first_click_and_nothing_changes():
    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.fixes.cells import asks_first
    from tfdiag_ipython.rules.pad._examples import SUSPICION
    from tfdiag_ipython.watch.padding import SUSPECTED

    host = PlainHost()
    assert host.add(SETUP).failure is None
    engine = Engine(load_registry())
    for inputs, status in (("ids", Status.STILL_FAILING), ("short", Status.NOT_CHECKED)):
        host.add("short = ids[:1]")
        failure = Failure.from_finding("padding", SUSPECTED["mask"], {**SUSPICION, "inputs": inputs})
        (diagnosis,) = engine.diagnose(failure, host.scene())
        plan = engine.plan(diagnosis, diagnosis.fix("measure"), host.scene(), failure)
        before = dict(host.namespace)
        assert not asks_first(plan)
        if status is Status.STILL_FAILING:
            done, verification = engine.apply(plan)
            assert verification.status is status and "row 1, 3 tokens" in done
        else:
            with pytest.raises(PlanError, match="no row of `short` is padded"):
                engine.apply(plan)
        assert host.namespace == before

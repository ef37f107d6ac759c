"""Names that a module lacks: what is no name of the library, or may be another thing, gets no answer that a person would click."""

import pytest

import tfdiag_ipython
from tfdiag_ipython.diagnosis import Applicability, Certainty

pytestmark = pytest.mark.hf
torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    "line",
    [
        "torch.F.relu(torch.ones(1))",  # what torch's modules call `F` is a type variable
        "from torch import F",
        "torch.nn.Attention(4, 2)",  # `torch.nn.attention` is a module
        "torch.Any",
    ],
)
def test_another_thing_of_that_name_is_not_taken_for_it(line):
    namespace = {"torch": torch}
    with pytest.raises((AttributeError, ImportError)) as raised:
        exec(line, namespace)
    found = tfdiag_ipython.diagnose(raised.value, source=line, namespace=namespace)
    assert all(one.certainty is Certainty.POSSIBLE for one in found)
    assert all(fix.applicability is Applicability.DISPLAY_ONLY for one in found for fix in one.fixes)

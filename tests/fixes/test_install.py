"""What is installed comes from tfdiag's own table; which release of it, from what can be a version only."""

import pytest

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fixes.install import InstallPackages
from tfdiag_ipython.testing import PlainHost


def test_a_release_that_will_do_is_asked_for():
    plan = InstallPackages(PlainHost(), ("accelerate", "PIL"), releases={"accelerate": ">=1.1.0"})
    assert plan.command[-2:] == ["accelerate>=1.1.0", "pillow"]
    assert "'accelerate>=1.1.0' pillow" in plan.preview().text  # quoted: a shell would redirect


@pytest.mark.parametrize("text", ["1.0 --index-url x", ">=1 @ file:///tmp/x", "; rm", "[extra]"])
def test_what_is_no_version_reaches_no_command_line(text):
    with pytest.raises(PlanError):
        InstallPackages(PlainHost(), ("accelerate",), releases={"accelerate": text})


def test_a_package_outside_the_table_is_refused():
    with pytest.raises(PlanError):
        InstallPackages(PlainHost(), ("left_pad",))

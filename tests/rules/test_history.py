"""What the history of transformers' releases says of a name is in the order in which things happened."""

import pytest

from tfdiag_ipython.data import table
from tfdiag_ipython.rules.cfg._model_types import first_release, removed_in
from tfdiag_ipython.rules.imp._symbols import older, release_of


@pytest.mark.parametrize("kind", ["", "inner_", "modules_", "types_"])
def test_nothing_is_gone_before_it_came(kind):
    gone = [name for names in table("transformers_names")[f"{kind}gone"].values() for name in names.split()]
    assert gone
    for name in gone:
        first = release_of(f"{kind}first", name)
        assert not first or older(first, release_of(f"{kind}gone", name)), name


def test_a_model_type_is_read_from_the_library_not_from_a_class_name():
    assert first_release("blip_2_qformer") == "4.52"  # its class Blip2QFormerConfig came with 4.27
    assert first_release("qwen3_moe") == "4.51"
    assert removed_in("transfo-xl") == "5.0" and not removed_in("bert")


def test_a_module_is_no_exported_name():
    assert not release_of("first", "tokenization_utils_fast")
    assert release_of("modules_gone", "tokenization_utils_fast") == "5.0"

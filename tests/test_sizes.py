"""Bytes in words: files in decimal units, memory in binary ones."""

import pytest

from tfdiag_ipython.sizes import file_size, memory_size


@pytest.mark.parametrize(
    ("number", "file", "memory"),
    [
        (0, "0 bytes", "0 bytes"),
        (999, "999 bytes", "999 bytes"),
        (47_544, "47.5 kB", "46.43 KiB"),
        (437_972_328, "438 MB", "417.68 MiB"),
        (2**34, "17.2 GB", "16 GiB"),
        (2**41, "2.2 TB", "2 TiB"),
    ],
)
def test_each_kind_of_size_is_told_in_its_own_units(number, file, memory):
    assert (file_size(number), memory_size(number)) == (file, memory)


def test_an_unknown_amount_of_memory_is_said():
    assert memory_size(None) == "an unknown amount"

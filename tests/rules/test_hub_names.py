"""Addresses given in place of a repository's name: whose they are, and no page of the site is taken for a repository."""

import pytest

from tfdiag_ipython.api import diagnose_text
from tfdiag_ipython.rules.hub._names import read_name

SITE = [
    "docs/transformers",
    "join",
    "papers/2305.14314",
    "settings/tokens",
    "api/models",
    "blog/bert-101",
    "learn",
    "pricing",
    "tasks/fill-mask",
    "posts/erin/1",
    "collections/acme/tiny-65f",
    "login",
    "new",
    "organizations/new",
    "search/full-text",
    "chat",
    "spaces",
    "datasets",
    "models?search=bert",
    "api/models/acme/tiny",
    "transformers/quicktour.html",
    "docs/transformers/main/en/index",
]


@pytest.mark.parametrize("page", ["", *SITE])
@pytest.mark.parametrize("host", ["https://huggingface.co", "hf.co"])
def test_a_page_of_the_site_is_no_repository(host, page):
    found = read_name(f"{host}/{page}")
    assert found and found.meant == "" and "a page of the Hub's site, and no repository's name" in found.told


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("https://huggingface.co/acme/tiny", "acme/tiny"),
        ("https://huggingface.co/gpt2", "gpt2"),
        ("https://huggingface.co/docs-team/model", "docs-team/model"),
        ("HTTPS://HuggingFace.co/Acme/Tiny", "Acme/Tiny"),
        ("https://huggingface.co/acme/tiny.git", "acme/tiny"),
        ("git@hf.co:acme/tiny", "acme/tiny"),
        ("https://huggingface.co/acme/tiny/discussions/3", "acme/tiny"),
        ("https://huggingface.co/acme/tiny/blame/main/config.json", "acme/tiny"),
        ("https://hf-mirror.com/acme/tiny", "acme/tiny"),
    ],
)
def test_the_name_of_a_models_page(address, meant):
    found = read_name(address, "https://hf-mirror.com")
    assert found and found.meant == meant


@pytest.mark.parametrize("kind", ["datasets", "spaces"])
def test_another_kind_of_repository_is_no_model(kind):
    found = read_name(f"https://huggingface.co/{kind}/acme/tiny")
    assert found and found.meant == "" and f"the name of that {kind[:-1]} is `acme/tiny`" in found.told


def test_a_revision_behind_the_name_is_told_apart():
    found = read_name("acme/tiny@v2")
    assert found and 'Give `acme/tiny` and `revision="v2"`.' in found.why


def test_a_folder_of_a_pages_name_is_left_alone():
    assert read_name("docs/transformers") is None


def test_a_token_in_an_address_is_not_shown_and_the_name_is_found():
    address = "https://erin:hf_s3cretpw@huggingface.co/acme/tiny"
    (found, *_) = diagnose_text(
        f"OSError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '{address}'."
    )
    assert "s3cretpw" not in repr(found) and "the name of that repository is `acme/tiny`" in found.title
    assert "log in with `hf auth login`" in found.why

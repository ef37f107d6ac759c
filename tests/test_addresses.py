"""A login in an address is nobody's business; everything else of the address is."""

import pytest

from tfdiag_ipython.addresses import hide_logins, is_web_address, without_login
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import compare
from tfdiag_ipython.probe import Cell


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("erin:s3cretpw@mirror.corp", "mirror.corp"),
        ("https://erin:s3cretpw@mirror.corp/hub", "https://mirror.corp/hub"),
        ("htps://s3cretpw@mirror.corp", "htps://mirror.corp"),
        ("https:/erin:s3cretpw@mirror.corp", "https:/mirror.corp"),
        ("//erin:s3cretpw@mirror.corp", "//mirror.corp"),
        ('"https://erin:s3@cretpw@mirror.corp"', '"https://mirror.corp"'),
        ("https://erin:s3/cret@pw@mirror.corp:8080", "https://mirror.corp:8080"),
        ("https://erin:s3cretpw@[::1]:80/x", "https://[::1]:80/x"),
    ],
)
def test_a_login_in_front_of_the_host_is_taken_out(address, shown):
    assert without_login(address) == shown


@pytest.mark.parametrize(
    "address",
    ["mirror.corp", "https://mirror.corp:8080/a@b", "mirror.corp:8080/a@b", "http://[::1]:80/a@b", "None", ""],
)
def test_an_address_without_a_login_stays_as_it_is(address):
    assert without_login(address) == address


@pytest.mark.parametrize(
    "text",
    [
        "HEAD https://erin:s3cretpw@127.0.0.1:9/acme/tiny failed",
        "No connection adapters were found for 'htps://erin:s3cretpw@mirror.corp/acme'",
        "Invalid URL 'erin:s3cretpw@mirror.corp/acme': No scheme supplied",
        "https://hf_s3cretpw@huggingface.co/acme/tiny",
        "https://erin:x/s3cretpw@mirror.corp and https://erin:x@s3cretpw@mirror.corp",
    ],
)
def test_logins_within_a_text_are_hidden_and_said_to_be_there(text):
    told = hide_logins(text)
    assert "s3cretpw" not in told and "<credentials>@" in told


def test_a_text_without_a_login_stays_as_it_is():
    text = "https://huggingface.co:443/a@b, repo/name:tag@sha256, mail: erin@example.org, transformers==5.0 @ file:///x"
    assert hide_logins(text) == text


@pytest.mark.parametrize(
    "address", ["https://hf-mirror.com", "HTTP://127.0.0.1:8080/hub/", "http://[::1]:80", "https://hub"]
)
def test_what_a_request_can_be_sent_to(address):
    assert is_web_address(address)


@pytest.mark.parametrize(
    "address",
    (
        "hf-mirror.com",
        "https:/hf-mirror.com",
        "https:///x",
        "https://https://x",
        "https://x:80a",
        "https://x:99999",
        "https://hf-mirror..com",
        "https://hf-mirror.com ",
        '"https://x"',
        "ftp://x",
        "",
    ),
)
def test_what_no_request_can_be_sent_to(address):
    assert not is_web_address(address)


def test_what_a_fix_led_to_is_told_without_the_login():
    failure = Failure.from_text(
        "OSError: We couldn't connect to 'https://erin:s3cretpw@mirror.corp' to load the files."
    )
    told = compare(None, failure, Cell(3, "load()")).detail
    assert "mirror.corp" in told and "s3cretpw" not in told

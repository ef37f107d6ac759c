"""What a report must not show, and what it must leave alone."""

import pytest

from tfdiag_ipython.redact import redact


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token hf_AbCdEfGhIjKlMnOpQrSt", "AbCdEfGhIj"),
        ("OPENAI sk-proj-abcdefghijklmnop1234", "abcdefghijklmnop1234"),
        ("ghp_0123456789abcdefghij0123456789abcdef", "0123456789"),
        ("github_pat_11ABCDEFG0123456789_abc", "11ABCDEFG"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        ("Authorization: Bearer abc.def-ghi_jkl", "abc.def"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.sig", "eyJzdWIi"),
        ("https://jane:hunter2@example.org/x", "hunter2"),
        ("http://sometoken@proxy:3128", "sometoken"),
        ("login(token='not_a_known_form_123')", "not_a_known_form_123"),
        ('"api_key": "zzzzzzzzzz"', "zzzzzzzzzz"),
        ("password=letmein99", "letmein99"),
        ("/home/jane/project/run.py", "jane"),
        ("/Users/jane.doe/run.py", "jane"),
        (r"C:\Users\Jane\run.py", "Jane"),
        (r"'C:\\Users\\Jane\\run.py'", "Jane"),
        ("/mnt/home/dave/run.py", "dave"),
        ("/gpfs/users/erin/run.py", "erin"),
        ("/data/home/frank", "frank"),
        ("PATH=/bin:/cluster/users/erin/bin", "erin"),
        ("/afs/uni/user/e/erin/run.py", "erin"),
        ("file:///mnt/home/dave/x", "dave"),
        ("/mnt/c/Users/Jane/x", "Jane"),
        ("/Volumes/Dave's Disk/x", "Dave"),
        ("/Volumes/Macintosh HD/Users/dave/x", "dave"),
        ("/Volumes/dave", "dave"),
        ("/media/dave/USB/x", "dave"),
        (r"D:\Users\Jane Doe\run.py", "Doe"),
        (r"D:\data\users\jane\run.py", "jane"),
        (r"\\wsl$\Ubuntu\home\jane\run.py", "jane"),
        ("Authorization: Bearer abcdefghij", "abcdefghij"),
        ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("x-eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.sig", "eyJzdWIi"),
        ("eyJhbGciOiJkaXIifQ..iviviviv.cipher123.tag12345", "cipher123"),
        ("token   =            swordfish1", "swordfish1"),
        ("authorization: token abcdefghij", "abcdefghij"),
        ("{'authorization': 'basic dxnlcjpwyxnz'}", "dxnlcjpwyxnz"),
        ("Basic            dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("Proxy-Authorization: 0123456789abcdef", "0123456789"),
        ("https://jane:hunt/er2@example.org/x", "er2"),
        ("https://jane:hunt@er2@example.org/x", "er2"),
        ("/home/e/erin/run.py", "erin"),
        ("/home/e/er/erin/run.py", "erin"),
        ("write to jane.doe+x@mail.example.co.uk please", "jane.doe"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "MIIabc"),
    ],
)
def test_it_takes_out(text, secret):
    assert secret not in redact(text, {})


def test_values_of_secret_variables_are_taken_out_and_others_left():
    environment = {"WANDB_API_KEY": "0123456789", "MY_PASSWORD": "swordfish", "LANG": "en_US.UTF-8", "A_TOKEN": "a"}
    assert redact("0123456789 swordfish en_US.UTF-8 a", environment) == (
        "<value of WANDB_API_KEY> <value of MY_PASSWORD> en_US.UTF-8 a"
    )


def test_a_password_in_the_address_of_a_proxy_is_taken_out_also_where_a_message_quotes_a_piece_of_it():
    environment = {"HTTPS_PROXY": "http://erin:swordfish/pw@proxy:3128", "HF_ENDPOINT": "https://hf-mirror.com"}
    told = redact("Invalid port: 'swordfish', no hf-mirror.com", environment)
    assert told == "Invalid port: '<value of HTTPS_PROXY>', no hf-mirror.com"


def test_the_longer_of_two_secrets_is_not_torn_apart():
    assert "extra" not in redact("swordfish-extra", {"A_SECRET": "swordfish", "B_SECRET": "swordfish-extra"})


@pytest.mark.parametrize(
    "text",
    [
        "/usr/lib/python3/site-packages/transformers/tokenization_utils.py:12 encode",
        "tokenizer.pad_token = tokenizer.eos_token",
        "tokenizer.add_special_tokens({'pad_token': '<|pad|>'})",
        "max_new_tokens=128, num_tokens: 4096",
        "token=None, use_auth_token=True",
        "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 14.76 GiB total capacity)",
        "https://huggingface.co/bert-base-uncased/resolve/main/config.json",
        "torch==2.13.0+cpu @ x86_64",
        "/usr/lib/python3/dist-packages/shop/users/views.py",
        "/opt/conda/lib/python3.11/site-packages/accounts/users/models.py",
        "/content/drive/MyDrive/models/bert/config.json",
        "/data/users/list.csv",
        r"C:\Python311\Lib\site-packages\shop\users\views.py",
        "https://huggingface.co/api/users/overview",
        "models/home/model.safetensors",
        "Token classification needs labels, Basic tokenization does not",
        "Authorization: required for this model, authorization error",
    ],
)
def test_it_leaves_alone(text):
    assert redact(text, {}) == text


def test_a_login_without_a_scheme_is_redacted():
    told = redact("bob:s3cretpw@127.0.0.1:9 could not be reached")
    assert "s3cretpw" not in told and "127.0.0.1:9 could not be reached" in told


def test_the_persons_own_name_is_taken_out_of_other_folders():
    environment = {"USER": "erin", "LOGNAME": "root"}
    told = redact("/scratch/erin/run.py /opt/erinnern/x C:\\work\\erin root /root/x erin", environment)
    assert told == "/scratch/<user>/run.py /opt/erinnern/x C:\\work\\<user> root /root/x erin"


def test_of_a_home_folder_only_its_owner_is_taken_out():
    assert (
        redact("/home/a/projects/erin and /home/erin/e/erin2", {})
        == "/home/<user>/projects/erin and /home/<user>/e/erin2"
    )
    assert redact("/afs/uni/user/e/erin/run.py", {}) == "/afs/uni/user/e/<user>/run.py"


@pytest.mark.parametrize("name", ["torch", "transformers", "data", "json", "work"])
def test_a_name_that_folders_and_packages_have_too_is_taken_out_of_homes_alone(name):
    paths = f"/opt/{name}/nn/modules.py /venv/site-packages/{name}/x.py"
    assert redact(f"{paths} /home/{name}/x", {"USER": name}) == f"{paths} /home/<user>/x"


def test_a_package_that_has_the_persons_name_keeps_it():
    assert redact("/venv/lib/site-packages/rich/x.py /scratch/rich/x.py", {"USER": "rich"}) == (
        "/venv/lib/site-packages/rich/x.py /scratch/<user>/x.py"
    )


def test_a_long_run_of_letters_before_it_hides_no_secret():
    assert "swordfish1" not in redact("x" * 500 + "_token=swordfish1", {})

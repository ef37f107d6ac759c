"""The cells that reproduce a Hub that cannot be reached."""

from __future__ import annotations

from tfdiag_ipython.diagnosis import Certainty
from tfdiag_ipython.rule import Reproduce, Try
from tfdiag_ipython.rules.hub._examples import ANSWERING, CACHED, CIRCLE, GATEWAY, NO_WAITS, ONLINE, PROXY, SERVING
from tfdiag_ipython.rules.hub._tls_example import CERTIFICATE_VARIABLES, INSPECTED

REFUSED = f"{NO_WAITS}from huggingface_hub import hf_hub_download"
DOWNLOAD = "hf_hub_download('acme/tiny-bert', 'config.json')"
OFFLINE = {**ONLINE, "HF_HUB_OFFLINE": "1"}
REPRODUCED = (
    Reproduce(
        (GATEWAY, CACHED, "tokenizer = AutoTokenizer.from_pretrained('acme/tiny-bert')"),
        title=r"127\.0\.0\.1:\d+ answered HTTP 401 .* the tokenizer of `acme/tiny-bert` is in the local cache: go offline",
        certainty=Certainty.CONFIRMED,
        fixes=(Try("go-offline"), Try("local-files-only")),
        environment=ONLINE,
        isolated=True,
    ),
    Reproduce(
        (ANSWERING, "import huggingface_hub", "info = huggingface_hub.model_info('acme/tiny-bert')"),
        title="Offline mode is on .* holds nothing of `acme/tiny-bert`",
        certainty=Certainty.CONFIRMED,
        fixes=(Try("go-online"),),
        needs=("huggingface_hub",),
        environment=OFFLINE,
        isolated=True,
    ),
    Reproduce(
        (
            "from huggingface_hub import snapshot_download",
            "snapshot_download('acme/never-downloaded', local_files_only=True)",
        ),
        title=r"Only local files were allowed \(`local_files_only=True`\), and .* holds nothing of `acme/never-downloaded`",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment=ONLINE,
        isolated=True,
    ),
    Reproduce(
        (REFUSED, DOWNLOAD),
        title=r"127\.0\.0\.1:9 could not be reached: the connection was refused; .* holds nothing of `acme/tiny-bert`",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment={**ONLINE, "HF_ENDPOINT": "http://127.0.0.1:9"},
        isolated=True,
    ),
    Reproduce(
        (REFUSED, DOWNLOAD),
        title=r"hub\.invalid could not be reached: its name did not resolve",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment={**ONLINE, "HF_ENDPOINT": "http://hub.invalid"},
        isolated=True,
    ),
    Reproduce(
        (REFUSED, DOWNLOAD),
        title=r"hub\.example could not be reached: the proxy in HTTPS_PROXY did not let it through",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment={**ONLINE, "HF_ENDPOINT": "https://hub.example", "HTTPS_PROXY": "http://127.0.0.1:9"},
        isolated=True,
    ),
    *(
        Reproduce(
            (REFUSED, DOWNLOAD),
            title=r"hub\.example could not be reached: the value of HTTPS_PROXY is no address of a proxy",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub>=1",),
            environment={**ONLINE, "HF_ENDPOINT": "https://hub.example", "HTTPS_PROXY": value},
            isolated=True,
        )
        for value in ("htp://127.0.0.1:9", "http://erin:swordfish/pw@127.0.0.1:9")
    ),
    Reproduce(
        (REFUSED, DOWNLOAD),
        title=r"127\.0\.0\.1:9 cannot be asked: SSL_CERT_FILE names a certificate file that does not exist",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub>=1",),
        environment={**ONLINE, "HF_ENDPOINT": "https://127.0.0.1:9", "SSL_CERT_FILE": "/nowhere/ca.pem"},
        isolated=True,
    ),
    Reproduce(
        (PROXY, REFUSED, DOWNLOAD),
        title=r"hub\.example could not be reached: the proxy in HTTPS_PROXY wants a login \(HTTP 407\)",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment={**ONLINE, "NO_PROXY": None, "no_proxy": None, "https_proxy": None},
        isolated=True,
    ),
    Reproduce(
        (
            GATEWAY + 'os.environ["HF_ENDPOINT"] = os.environ["HF_ENDPOINT"].replace("http:", "https:")',
            REFUSED,
            DOWNLOAD,
        ),
        title=r"127\.0\.0\.1:\d+ could not be reached: it speaks no TLS",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment=ONLINE,
        isolated=True,
    ),
    Reproduce(
        (INSPECTED, REFUSED, DOWNLOAD.replace(")", ", force_download=True)")),
        title=r"127\.0\.0\.1:\d+ could not be reached: its TLS certificate is not trusted here",
        certainty=Certainty.CONFIRMED,
        fixes=(Try("trust-certificate-file"),),
        needs=("huggingface_hub",),
        environment={**ONLINE, **CERTIFICATE_VARIABLES},
        isolated=True,
    ),
    Reproduce(
        (INSPECTED, REFUSED),
        probe="hub",
        title=r"could not be reached: its TLS certificate is signed by Acme TLS Inspection \(Acme Corporation\), not trusted here",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment={**ONLINE, **CERTIFICATE_VARIABLES},
        isolated=True,
    ),
    Reproduce(
        ("",),
        probe="hub http://127.0.0.1:9",
        title=r"127\.0\.0\.1:9 could not be reached: the connection was refused",
        certainty=Certainty.CONFIRMED,
        needs=(),
    ),
    Reproduce(
        (CIRCLE, REFUSED, DOWNLOAD),
        title=r"127\.0\.0\.1:\d+ could not be reached: it sends in a circle",
        certainty=Certainty.CONFIRMED,
        needs=("huggingface_hub",),
        environment=ONLINE,
        isolated=True,
    ),
    Reproduce(
        (
            f"{SERVING}{CACHED}(repository / 'refs' / 'main').unlink()",
            "tokenizer = AutoTokenizer.from_pretrained('acme/tiny-bert')",
        ),
        title=r"Offline mode is on \(HF_HUB_OFFLINE\), and .* has `acme/tiny-bert` as commit 01234567, but not as revision main",
        certainty=Certainty.CONFIRMED,
        fixes=(Try("use-cached-revision"),),
        environment=OFFLINE,
        isolated=True,
    ),
    Reproduce(
        (
            f"{SERVING}import shutil\nfrom huggingface_hub import constants",
            "shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)\n"
            "AutoTokenizer.from_pretrained('acme/tiny-bert', local_files_only=True)",
        ),
        title="Only local files were allowed .* holds nothing of `acme/tiny-bert`",
        certainty=Certainty.CONFIRMED,
        fixes=(Try("ask-the-hub"),),
        environment=ONLINE,
        isolated=True,
    ),
    Reproduce(
        ("from transformers import AutoConfig", "AutoConfig.from_pretrained('acme/never-downloaded')"),
        title=r"Offline mode is on \(TRANSFORMERS_OFFLINE\), and .* holds nothing of `acme/never-downloaded`",
        certainty=Certainty.CONFIRMED,
        environment={**ONLINE, "TRANSFORMERS_OFFLINE": "1"},
        isolated=True,
    ),
)

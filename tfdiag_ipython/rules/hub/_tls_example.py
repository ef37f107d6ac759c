"""A Hub behind a company's proxy that opens TLS: its certificate is signed by somebody whom no list of the world knows.

The certificates and the key were made for this test alone, for 127.0.0.1, and are trusted nowhere.
"""

from tfdiag_ipython.rules.hub._examples import SERVER

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBuDCCAV6gAwIBAgIUMqBS8pQeF7Vsr1736maHM9qTV5EwCgYIKoZIzj0EAwIw
OTEZMBcGA1UECgwQQWNtZSBDb3Jwb3JhdGlvbjEcMBoGA1UEAwwTQWNtZSBUTFMg
SW5zcGVjdGlvbjAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowOTEZ
MBcGA1UECgwQQWNtZSBDb3Jwb3JhdGlvbjEcMBoGA1UEAwwTQWNtZSBUTFMgSW5z
cGVjdGlvbjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNPtbYD7yLy38YM/WY0H
Nd2Xa3N/MtGMsHViBTtfyOWeckgJthXYzgbpCWM8n4XeSFr7SO20PZ8VUyqI79qJ
zyCjQjBAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQW
BBQTdnEUPDo7A8dGVs1K054bNxJE6DAKBggqhkjOPQQDAgNIADBFAiEAvwtRIJx2
syz1C9oPO6PQ4uj1fGRX+OLp8ylxTkEjRKYCIFrjXDbE8kRCZWrQxM/h50X8bzDi
ir3CVZLahAac1jLX
-----END CERTIFICATE-----
"""
"""Acme TLS Inspection (Acme Corporation)."""
_SHOWN = """\
-----BEGIN CERTIFICATE-----
MIIBnjCCAUSgAwIBAgIUKiGc06c+VfLjSgIuQD8B56vYdvAwCgYIKoZIzj0EAwIw
OTEZMBcGA1UECgwQQWNtZSBDb3Jwb3JhdGlvbjEcMBoGA1UEAwwTQWNtZSBUTFMg
SW5zcGVjdGlvbjAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFDES
MBAGA1UEAwwJMTI3LjAuMC4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEURtk
LulO/RKfO21N2QzLxoBro98P1YrrNqBWGsTZ8z2NQj19ia5xhHJFyEG2NODdO6YQ
unRBhsHyaFprWf36f6NNMEswGgYDVR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAwG
A1UdEwEB/wQCMAAwHwYDVR0jBBgwFoAUE3ZxFDw6OwPHRlbNStOeGzcSROgwCgYI
KoZIzj0EAwIDSAAwRQIgZJjep3tVFCibTfQqIMX85xYv4hxT9cyd0AatQDOY2msC
IQDy9HMgNBYnV0bH9QrmbBFSC3E1YHDD2BA5TSPmpBLSZw==
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzyQ/Q68ewenf0WHx
JMsFeOMEHXPWzRobjXrGyFugKfWhRANCAARRG2Qu6U79Ep87bU3ZDMvGgGuj3w/V
ius2oFYaxNnzPY1CPX2JrnGEckXIQbY04N07phC6dEGGwfJoWmtZ/fp/
-----END PRIVATE KEY-----
"""
INSPECTED = (
    SERVER
    + f"""
import ssl, pathlib
folder = pathlib.Path(os.environ["HF_HOME"])
(folder / "company.pem").write_text({AUTHORITY!r})
(folder / "shown.pem").write_text({_SHOWN!r})
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / "shown.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
os.environ["HF_ENDPOINT"] = os.environ["HF_ENDPOINT"].replace("http:", "https:")
os.environ["PIP_CERT"] = str(folder / "company.pem")
def answer(path):
    return 200, {{"ETag": '"1"', "X-Repo-Commit": "01234567" * 5}}, b"{{}}"
"""
)
"""... and pip, but not the Hub's client, has been told of the company's certificate."""
CERTIFICATE_VARIABLES = dict.fromkeys(
    (
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "PIP_CERT",
        "NODE_EXTRA_CA_CERTS",
        "AWS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
    )
)

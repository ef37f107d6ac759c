"""Setup cells of this domain's cases: Hubs on this machine that refuse, and a cache with a tiny model in it."""

NO_WAITS = """
import huggingface_hub.utils._http as http
class Clock:
    time, sleep = staticmethod(http.time.time), staticmethod(lambda seconds: None)  # no waits between the five tries
http.time = Clock
"""
SERVER = """
import http.server, json, os, tempfile, threading
class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        status, headers, body = answer(self.path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_GET = do_HEAD
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
os.environ["HF_HOME"] = tempfile.mkdtemp()
"""
GATEWAY = (
    SERVER
    + """
def answer(path):
    return 401, {}, b""
"""
)
"""A company's gateway that wants a login for everything."""
CIRCLE = (
    SERVER
    + """
def answer(path):
    return 302, {"Location": path}, b""
"""
)
"""A login page that sends back to itself."""
ONE_MISSING = (
    SERVER
    + """
def answer(path):
    return (404, {"X-Error-Code": "RepoNotFound"}, b"") if "tiny-brt" in path else (401, {}, b"")
"""
)
"""A Hub that knows no `acme/tiny-brt`."""
ANSWERING = (
    SERVER
    + """
def answer(path):
    return 200, {"Content-Type": "application/json"}, json.dumps({"id": "acme/tiny-bert", "modelId": "acme/tiny-bert"}).encode()
"""
)
"""A Hub that tells about `acme/tiny-bert`."""
ONE_REVISION = (
    SERVER
    + """
def answer(path):
    if "/v9" in path:
        return 404, {"X-Error-Code": "RevisionNotFound"}, b""
    if path.endswith("/config.json"):
        return 200, {"ETag": '"1"', "X-Repo-Commit": "01234567" * 5}, b"{}"
    return 404, {"X-Error-Code": "EntryNotFound"}, b""
"""
)
"""A Hub that has the branch `main` only."""
SERVING = (
    SERVER
    + """
import pathlib
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models
served = pathlib.Path(tempfile.mkdtemp())
size = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
BertModel(BertConfig(**size)).save_pretrained(served)
words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(served)
def answer(path):
    file = served / path.rpartition("/")[2]
    if "/resolve/" in path and file.is_file():
        return 200, {"ETag": f'"{file.name}"', "X-Repo-Commit": "01234567" * 5}, file.read_bytes()
    if path.startswith("/api/") and "/tree/" not in path:
        told = {"id": "acme/tiny-bert", "modelId": "acme/tiny-bert", "sha": "01234567" * 5}
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
    return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "01234567" * 5}, b""
"""
)
"""A Hub that serves a real, tiny `acme/tiny-bert`."""
STRICT = """
serve = Hub.do_HEAD
def guarded(self):
    if "Authorization" not in self.headers:
        return serve(self)
    self.send_response(401)
    self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
    self.send_header("Content-Length", "0")
    self.end_headers()
Hub.do_HEAD = Hub.do_GET = guarded
"""
"""It refuses every token."""
PROXY = (
    SERVER.replace(
        "class Hub(http.server.BaseHTTPRequestHandler):",
        """class Hub(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()""",
    )
    + """
os.environ["HTTPS_PROXY"] = os.environ["HF_ENDPOINT"]
os.environ["HF_ENDPOINT"] = "https://hub.example"
"""
)
"""A proxy that wants a login."""
CACHED = """
import pathlib
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, BertConfig, PreTrainedTokenizerFast
repository = pathlib.Path(constants.HF_HUB_CACHE) / "models--acme--tiny-bert"
snapshot = repository / "snapshots" / ("01234567" * 5)
(repository / "refs").mkdir(parents=True, exist_ok=True)
(repository / "refs" / "main").write_text(snapshot.name)
words = Tokenizer(models.WordLevel({"[UNK]": 0, "film": 1}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(snapshot)
BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8).save_pretrained(snapshot)
"""
"""A tokenizer and a configuration in the Hub's cache, as if downloaded earlier."""
SILENT = """
import os, socket, tempfile, threading
silent, kept = socket.create_server(("127.0.0.1", 0)), []
def accept():
    while True:
        kept.append(silent.accept())
threading.Thread(target=accept, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
os.environ["HF_HOME"] = tempfile.mkdtemp()
"""
"""A Hub that takes every connection and never says a word."""
INTERRUPTED = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
main = threading.main_thread().ident
def waits(frame):
    return frame is not None and ("_http" in frame.f_code.co_filename or waits(frame.f_back))
def interrupt():
    while True:
        time.sleep(0.5)
        if waits(sys._current_frames()[main]):
            signal.pthread_kill(main, signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
"""
"""Somebody who presses Stop whenever the Hub's client stands in a request."""
ONLINE = {"HF_HUB_OFFLINE": None, "TRANSFORMERS_OFFLINE": None, "HF_ENDPOINT": None, "HF_TOKEN": None}
"""Environment in which the library asks the Hub."""
MISSPELT = """
import shutil
shutil.copytree(repository, repository.with_name("models--acme--tiny-brt"), dirs_exist_ok=True)
"""
"""The same under the other name: a repository that was renamed or made private since it was downloaded."""
FOLDERS = """
import os, tempfile
from transformers import AutoConfig, BertConfig
os.chdir(tempfile.mkdtemp())
BertConfig().save_pretrained("./models/tiny-bert")
"""
"""A saved configuration beside the notebook."""

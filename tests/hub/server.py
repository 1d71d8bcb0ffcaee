"""A stand-in of the model hub on 127.0.0.1: huggingface_hub's requests answered from memory, with faults on demand."""

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".parquet")
"""Suffixes of files that the hub keeps as large files, with a SHA-256."""


@dataclass
class Repository:
    """Files of one commit."""

    files: dict[str, bytes]
    commit: str = ""
    branches: tuple[str, ...] = ("main",)

    def __post_init__(self):
        content = json.dumps({path: sha256(data) for path, data in sorted(self.files.items())})
        self.commit = self.commit or hashlib.sha1(content.encode()).hexdigest()

    def entries(self, paths=None):
        """Tree entries as the hub lists them."""
        for path, data in sorted(self.files.items()):
            if paths is None or path in paths:
                entry = {"type": "file", "path": path, "oid": blob_id(data), "size": len(data)}
                large = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
                yield entry | ({"lfs": large} if path.endswith(LARGE) else {})


@dataclass
class Fault:
    """What goes wrong, `times` times, with GET requests whose path matches (with HEAD too if it is a status)."""

    pattern: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    flip: bool = False
    delay: float = 0.0


class Hub:
    """The server; `with Hub() as hub:` runs it."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()

    def __enter__(self):
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def add(self, kind, name, files, **known):
        """Publishes a repository; kind is "models" or "datasets"."""
        self.repositories[kind, name] = Repository(files, **known)

    def fetched(self, pattern=""):
        """Paths of GET requests that match, in order."""
        return [path for method, path, _ in self.requests if method == "GET" and re.search(pattern, path)]

    def fault_for(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, path) and (method == "GET" or fault.status):
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer("HEAD")

    def do_GET(self):
        self.answer("GET")

    def do_POST(self):
        self.answer("POST")

    def answer(self, method):
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.hub.lock:
            self.hub.requests.append((method, path, self.headers.get("Range", "")))
        fault = self.hub.fault_for(method, path)
        if fault:
            time.sleep(fault.delay)
            if fault.status:
                self.reply(fault.status, b"{}", fault.headers)
                return
        if api := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/(.+))?", path):
            self.describe(*api.groups())
        elif file := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/(.+)", path):
            self.send_file("datasets" if file[1] else "models", file[2], file[3], fault)
        else:
            self.error(404, "RepoNotFound")

    def find(self, kind, name, revision):
        """(repository, the rest of the path after the revision); replies with the hub's error if there is none."""
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self.error(404, "RepoNotFound")
            return None, ""
        for known in (repository.commit, *repository.branches):
            if revision == known or revision.startswith(f"{known}/"):
                return repository, revision[len(known) + 1 :]
        self.error(404, "RevisionNotFound")
        return None, ""

    def describe(self, kind, name, what, revision):
        repository, _ = self.find(kind, name, revision or "main" if what else self.default(kind, name))
        if repository is None:
            return
        if what == "tree":
            value = list(repository.entries())
        elif what == "paths-info":
            value = list(repository.entries(json.loads(self.body)["paths"]))
        else:
            value = {"id": name, "sha": repository.commit, "siblings": [{"rfilename": path} for path in repository.files]}
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def default(self, kind, name):
        repository = self.hub.repositories.get((kind, name))
        return repository.branches[0] if repository else ""

    def send_file(self, kind, name, rest, fault):
        repository, path = self.find(kind, name, rest)
        if repository is None:
            return
        if path not in repository.files:
            self.error(404, "EntryNotFound", {"X-Repo-Commit": repository.commit})
            return
        data = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes", "ETag": f'"{blob_id(data)}"'}
        if path.endswith(LARGE):
            headers |= {"ETag": f'"{sha256(data)}"', "X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
        if fault and fault.flip:
            data = data[:-1] + bytes([data[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        self.reply(206 if asked else 200, data, headers, cut=bool(fault and fault.cut))

    def error(self, status, code, headers=None):
        self.reply(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def reply(self, status, data, headers, cut=False):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self.close_connection = True


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

"""A hub on this machine: two origins, commits published while it runs, faults on request, a log of what was asked.

Large files (`.safetensors`, `.parquet`) are sent from the second origin, as the hub's are. Nothing here knows hero_ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet")
PER_PAGE = 3


@dataclass
class Fault:
    """What to do with requests whose "METHOD PATH" holds `match`, `times` times.

    Attributes:
        status: answered instead; 0 answers as ever.
        delay_s: waited before the answer.
        cut_after: bytes of the body after which the connection ends.
    """

    match: str
    status: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut_after: int | None = None


class LoopbackHub:
    """Two servers on free ports; `url` is the hub's. Use as a context."""

    def __init__(self) -> None:
        self.refs: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.busy, self.busiest = 0, 0
        """Bodies of large files that are being sent now, and the most that ever were."""
        self.pace_s = 0.0
        """How long the body of a large file takes."""
        self.gated: set[str] = set()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(large)) for large in (False, True)]
        self.url, self.large_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self) -> LoopbackHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def put(self, name: str, files: Mapping[str, bytes], ref: str = "main") -> str:
        """Publish a commit of `models/ORG/NAME` or `datasets/ORG/NAME`; its hash."""
        parts = [f"{path}\0{hashlib.sha256(body).hexdigest()}" for path, body in sorted(files.items())]
        commit = hashlib.sha1("\n".join([name, *parts]).encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs.setdefault(name, {})[ref] = commit
        return commit

    def asked(self, part: str) -> list[str]:
        """Requests that hold `part`."""
        return [line for line in self.log if part in line]

    def _handler(self, large: bool) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_HEAD(self) -> None:
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def _answer(self) -> None:
                line = f"{self.command} {'large ' if large else ''}{self.path}"
                hub.log.append(line)
                fault = next((fault for fault in hub.faults if fault.times and fault.match in line), Fault(""))
                fault.times -= 1
                time.sleep(fault.delay_s)
                if fault.status:
                    return self._send(fault.status, b"busy", fault.headers)
                if large:
                    commit, path = unquote(self.path).lstrip("/").split("/", 1)
                    return self._large(hub.commits[commit][path], fault.cut_after)
                return self._send(*hub.reply(unquote(self.path)))

            def _large(self, body: bytes, cut_after: int | None) -> None:
                asked = self.headers.get("Range", "")
                start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
                ranged = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if asked else {}
                hub.busy += 1
                hub.busiest = max(hub.busiest, hub.busy)
                time.sleep(hub.pace_s)
                self._send(206 if asked else 200, body[start:], ranged, cut_after)
                hub.busy -= 1

            def _send(
                self,
                status: int,
                body: bytes,
                headers: Mapping[str, str] | None = None,
                cut_after: int | None = None,
            ) -> None:
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    with contextlib.suppress(ConnectionError):  # who waited too long is gone
                        self.wfile.write(body[:cut_after])
                self.close_connection = self.close_connection or cut_after is not None

        return Handler

    def reply(self, target: str) -> tuple[int, bytes, dict[str, str]]:
        """(status, body, headers) of a request to the first origin."""
        parts = urlsplit(target)
        path = parts.path.strip("/")
        is_api = path.startswith("api/")
        path = path.removeprefix("api/")
        if not is_api and not path.startswith("datasets/"):
            path = "models/" + path
        name, rest = "/".join(path.split("/")[:3]), path.split("/")[3:]
        if name not in self.refs:
            return 401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        if name in self.gated and not is_api:
            return 403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
        if not rest or rest[0] == "revision":
            return self._info(name, "/".join(rest[1:]) or "main")
        if rest[0] == "discussions":
            return 200, b'{"discussions": [], "count": 0, "start": 0}', {}
        if rest[0] == "tree":
            return self._tree(name, rest[1:], parse_qs(parts.query), target)
        if rest[0] == "resolve":
            return self._file(name, rest[1:])
        return 404, b"{}", {"X-Error-Code": "EntryNotFound"}

    def _split(self, name: str, rest: list[str]) -> tuple[str | None, str]:
        """(commit, path) behind a revision that may hold slashes itself; the longest known one."""
        for end in range(len(rest), 0, -1):
            revision = "/".join(rest[:end])
            commit = self.refs[name].get(revision, revision if revision in self.commits else None)
            if commit is not None:
                return commit, "/".join(rest[end:])
        return None, ""

    def _info(self, name: str, revision: str) -> tuple[int, bytes, dict[str, str]]:
        commit, _ = self._split(name, revision.split("/"))
        if commit is None:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        siblings = [{"rfilename": path} for path in self.commits[commit]]
        told = {"id": name.partition("/")[2], "sha": commit, "siblings": siblings, "private": False, "tags": []}
        return 200, json.dumps(told).encode(), {}

    def _tree(
        self, name: str, rest: list[str], query: dict[str, list[str]], target: str
    ) -> tuple[int, bytes, dict[str, str]]:
        commit, inside = self._split(name, rest)
        if commit is None:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        files = {p: b for p, b in sorted(self.commits[commit].items()) if p.startswith(f"{inside}/" if inside else "")}
        entries: dict[str, dict[str, object]] = {}
        for path, body in files.items():
            below = path.removeprefix(f"{inside}/" if inside else "")
            if "/" in below and not recursive:
                folder = path[: len(path) - len(below)] + below.split("/")[0]
                entries[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
                continue
            digest = hashlib.sha256(body).hexdigest()
            entries[path] = {"type": "file", "path": path, "oid": digest[:40], "size": len(body)}
            if path.endswith(LARGE):
                entries[path]["lfs"] = {"oid": digest, "size": len(body), "pointerSize": 130}
        if inside and not entries:
            return 404, b"{}", {"X-Error-Code": "EntryNotFound"}
        start = int(query.get("cursor", ["0"])[0])
        page = list(entries.values())[start : start + PER_PAGE]
        headers = {}
        if start + PER_PAGE < len(entries):
            bare = urlsplit(target).path
            flags = "&".join(f"{key}={value[0]}" for key, value in query.items() if key != "cursor")
            headers["Link"] = f'<{self.url}{bare}?{flags}&cursor={start + PER_PAGE}>; rel="next"'
        return 200, json.dumps(page).encode(), headers

    def _file(self, name: str, rest: list[str]) -> tuple[int, bytes, dict[str, str]]:
        commit, path = self._split(name, rest)
        if commit is None:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        body = self.commits[commit].get(path)
        if body is None:
            return 404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
        digest = hashlib.sha256(body).hexdigest()
        told = {"X-Repo-Commit": commit, "ETag": f'"{digest[:40]}"', "Accept-Ranges": "bytes"}
        if not path.endswith(LARGE):
            return 200, body, told
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(body))}
        return 302, b"", told | linked | {"Location": f"{self.large_url}/{commit}/{path}"}

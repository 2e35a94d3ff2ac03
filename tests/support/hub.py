"""A hub on this machine that takes a token and a commit: what `--push` needs of one."""

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator


class Hub(http.server.ThreadingHTTPServer):
    """repositories: their files by name; private: those that were made private."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer hf_right":
            self._answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/whoami-v2":
            self._answer({"name": "someone", "type": "user", "auth": {}})
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        repository = "/".join(self.path.split("/")[3:5])
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            made = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            self.server.repositories.setdefault(made, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(made)
            self._answer({"url": f"{self.server.url}/{made}", "name": made, "id": "1"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.repositories[repository][line["value"]["path"]] = content
            url = f"{self.server.url}/{repository}/commit/1"
            self._answer({"success": True, "commitUrl": url, "commitOid": "1" * 40})
        else:
            self._answer({})

    def _answer(self, value: dict, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()

"""A server on this machine that answers like an API of chats."""

import http.server
import json
import threading


class Server:
    """Answers like an API of chats. said: what it says, one a request, the last one again."""

    def __init__(self, *said: str | int):
        self.said, self.requests, outer = list(said), [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers.get("Authorization"), body))
                say = outer.said.pop(0) if len(outer.said) > 1 else outer.said[0]
                if isinstance(say, int):
                    self.send_error(say)
                    return
                message = {"choices": [{"message": {"content": say}}]}
                reply = json.dumps(message | {"usage": {"total_tokens": 10}}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

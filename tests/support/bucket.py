"""A bucket on this machine: `python tests/support/bucket.py` serves gs://bucket out of memory until
it is killed. It prints the port, which the system chooses.

The emulator lacks what Orbax's storage library builds on: objects' generations as conditions and as
a header. It also turns away connections beyond a few, so each has a thread here; one request at a
time is handled."""

import logging
import threading
from http import HTTPStatus, server

from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import NotFound

LOCK = threading.Lock()


class Server(server.ThreadingHTTPServer):
    request_queue_size, daemon_threads = 128, True

    def server_activate(self):
        super().server_activate()
        print(self.server_port, flush=True)


def conditional(handler):
    """https://cloud.google.com/storage/docs/request-preconditions; generation 0 is that of an
    object that is not there."""

    def handle(request, response, storage):
        names = request.params or {}
        bucket = names.get("bucket_name")
        name = names.get("object_id") or request.query.get("name", [None])[0]

        def generation():
            try:
                return storage.get_file_obj(bucket, name)["generation"]
            except NotFound:
                return "0"

        _ = request.data  # read in any case: who sends it waits for that
        with LOCK:
            found = generation() if name else None
            if request.query.get("ifGenerationMatch", [found]) != [found]:
                response.status = HTTPStatus.PRECONDITION_FAILED
            elif found and request.query.get("ifGenerationNotMatch") == [found]:
                response.status = HTTPStatus.NOT_FOUND if found == "0" else HTTPStatus.NOT_MODIFIED
            else:
                handler(request, response, storage)
                if name:
                    response["x-goog-generation"] = generation()

    return handle


emulator.server.HTTPServer = Server
emulator.HANDLERS = [
    (pattern, {method: conditional(handler) for method, handler in handlers.items()})
    for pattern, handlers in emulator.HANDLERS
]
logging.disable()
emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket").run()

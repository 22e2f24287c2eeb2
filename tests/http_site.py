"""A small web server on this machine for tests, with the bad habits of real ones."""

import http.server
import re
import threading
import time


class Site:
    """Serves `files` ({path: bytes}); the other attributes make it misbehave. Use as a context manager.

    ignore_ranges: answers every request with the whole file. cut_after: [numbers of bytes] after which the next
    replies break off. states: {path: [HTTP states]} answered first, one a request. redirects: {path: path}.
    headers: {name: value} sent with such a state. lie: {path: Content-Length to claim}. slow: seconds between
    blocks of 64 kB or half a file. etag: of all files.
    """

    def __init__(self, files=None):
        self.files, self.requests, self.cut_after, self.states = dict(files or {}), [], [], {}
        self.redirects, self.lie, self.types, self.headers = {}, {}, {}, {}
        self.ignore_ranges, self.no_length, self.slow, self.etag, self.no_head = False, False, 0, '"one"', False

    def __enter__(self):
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def asked(self, path, method="GET"):
        """Return the Range headers (or None) of the requests for a path."""
        return [span for how, where, span in self.requests if how == method and where == path]

    def _answer(self, request):
        path, span = request.path, request.headers.get("Range")
        self.requests.append((request.command, path, span))
        if self.no_head and request.command == "HEAD":
            return self._state(request, 405)
        if self.states.get(path):
            return self._state(request, self.states[path].pop(0))
        if path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[path])
            request.send_header("Content-Length", "0")
            return request.end_headers()
        if path not in self.files:
            return self._state(request, 404)
        data = self.files[path]
        start = int(re.match(r"bytes=(\d+)-", span)[1]) if span and not self.ignore_ranges else None
        if start is not None and request.headers.get("If-Range", self.etag) != self.etag:
            start = None
        if start is not None and start >= len(data):
            return self._state(request, 416)
        request.send_response(200 if start is None else 206)
        if start is not None:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        body = data[start or 0 :]
        if self.etag:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Type", self.types.get(path, "application/zip"))
        if self.no_length:
            request.send_header("Connection", "close")
            request.close_connection = True
        else:
            request.send_header("Content-Length", str(self.lie.get(path, len(body))))
        request.end_headers()
        if request.command == "HEAD":
            return None
        if self.cut_after:
            request.wfile.write(body[: self.cut_after.pop(0)])
            request.wfile.flush()
            request.close_connection = True
            return request.connection.close()
        length = min(1 << 16, max(1, (len(body) + 1) // 2))  # at least two: small files are slow too
        for at in range(0, len(body), length):
            request.wfile.write(body[at : at + length])
            if self.slow:
                time.sleep(self.slow)
        if path in self.lie:
            request.close_connection = True
        return None

    def _state(self, request, state):
        request.send_response(state)
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

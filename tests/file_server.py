"""A small web server with the manners of real ones: ranges, ETags, cut connections, redirections, a hub, Zenodo."""

import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit


class Site:
    """What a server offers and was asked; ``cuts`` is how many bytes each coming answer gives before it breaks."""

    def __init__(self):
        self.files = {}  # path: bytes
        self.redirects = {}  # path: address
        self.codes = []  # HTTP codes of the next answers, before anything else
        self.cuts = []
        self.ranges = True
        self.lengths = True
        self.asked = []  # (method, path, range)
        self.headers = {}  # path: more headers
        self.url = ""

    def add(self, path, content):
        self.files[path] = content
        return f"{self.url}{path}"

    def zenodo(self, record, **files):
        """List files as Zenodo's API does and serve them."""
        listed = []
        for name, content in files.items():
            link = self.add(f"/records/{record}/files/{name}/content", content)
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            listed.append({"key": name, "size": len(content), "checksum": f"md5:{md5}", "links": {"self": link}})
        self.add(f"/records/{record}", json.dumps({"files": listed}).encode())

    def hub(self, repository, revision, **files):
        """Answer as the Hugging Face hub does for one revision of a data set; names with ``__`` for ``/``."""
        tree = []
        for name, content in files.items():
            path = name.replace("__", "/")
            digest = hashlib.sha256(content).hexdigest()
            lfs = {"oid": digest, "size": len(content), "pointerSize": 130}
            tree.append({"type": "file", "path": path, "size": len(content), "oid": "0" * 40, "lfs": lfs})
            place = f"/datasets/{repository}/resolve/{revision}/{path}"
            self.add(place, content)
            self.headers[place] = {"X-Repo-Commit": revision, "ETag": f'"{digest}"'}
        self.add(f"/api/datasets/{repository}/tree/{revision}", json.dumps(tree).encode())
        self.add(f"/api/datasets/{repository}", json.dumps({"id": repository, "sha": revision}).encode())


@contextmanager
def serving():
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path, asked = unquote(urlsplit(self.path).path), self.headers.get("Range")
            site.asked.append((self.command, path, asked))
            if site.codes:
                return self.empty(site.codes.pop(0))
            if path in site.redirects:
                return self.empty(302, Location=site.redirects[path])
            if path not in site.files:
                return self.empty(404)
            content = site.files[path]
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            start = 0
            if site.ranges and asked and self.headers.get("If-Range", tag) == tag:
                start = int(asked.removeprefix("bytes=").partition("-")[0])
                if start >= len(content):
                    return self.empty(416, **{"Content-Range": f"bytes */{len(content)}"})
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            for name, value in {"ETag": tag, **site.headers.get(path, {})}.items():
                self.send_header(name, value)
            if site.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            else:
                self.close_connection = True
            self.end_headers()
            if body:
                cut = site.cuts.pop(0) if site.cuts else len(content)
                self.wfile.write(content[start : start + cut])
                if cut < len(content) - start:
                    self.close_connection = True
            return None

        def empty(self, code, **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

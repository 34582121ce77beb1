"""A server on this machine that answers as Cloud Storage does, as far as runs and data need it.

It speaks the JSON API: objects in memory, with generations and their conditions, listings with
delimiters and pages, ranges, and uploads at one go, in parts and resumed.
"""

import hashlib
import itertools
import json
import re
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

_PAGE = 100  # small, so that listings have several pages


class Buckets(ThreadingHTTPServer):
    """The server, which runs until `close`; `objects` is {(bucket, name): (content, generation)}."""

    daemon_threads = True

    def __init__(self, *names: str):
        super().__init__(('localhost', 0), _Handler)
        self.names, self.refused = (
            set(names),
            set(),
        )  # of the buckets, and of those that nobody may use
        self.objects: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.uploads: dict[
            str, tuple[str, str, bytes]
        ] = {}  # in parts: where to, and what has come
        self.generations = itertools.count(1)
        self.lock = threading.RLock()
        self.address = f'http://localhost:{self.server_port}'
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Clients hang up on what they no longer want to know."""

    def put(self, bucket: str, name: str, content: bytes) -> None:
        self.objects[bucket, name] = content, next(self.generations)

    def describe(self, bucket: str, name: str) -> dict:
        content, generation = self.objects[bucket, name]
        return {
            'kind': 'storage#object',
            'bucket': bucket,
            'name': name,
            'size': str(len(content)),
            'generation': str(generation),
            'metageneration': '1',
            'md5Hash': b64encode(hashlib.md5(content).digest()).decode(),
            'updated': '2026-01-01T00:00:00.000000Z',
            'timeCreated': '2026-01-01T00:00:00.000000Z',
        }


class _Error(Exception):
    """An answer that is no success."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize, disable_nagle_algorithm = -1, True  # an answer is sent at once
    server: Buckets

    def do_GET(self):
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *args):
        pass

    def _answer(self):
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.content = self._read()
        routes = {
            'GET /storage/v1/b/([^/]+)': self._bucket,
            'GET /storage/v1/b/([^/]+)/o/?': self._list,
            'GET /(?:download/)?storage/v1/b/([^/]+)/o/([^/]+)': self._get,
            'DELETE /storage/v1/b/([^/]+)/o/([^/]+)': self._delete,
            'POST /storage/v1/b/([^/]+)/o/([^/]+)/moveTo/o/([^/]+)': self._move,
            'POST /upload/storage/v1/b/([^/]+)/o': self._upload,
            'PUT /upload/storage/v1/b/([^/]+)/o': self._resume,
        }
        try:
            with self.server.lock:
                for route, handle in routes.items():
                    if match := re.fullmatch(route, f'{self.command} {url.path}'):
                        bucket, *rest = map(unquote, match.groups())
                        if bucket not in self.server.names:
                            raise _Error(404)
                        if bucket in self.server.refused:
                            raise _Error(403)
                        return handle(bucket, *rest)
            raise _Error(400)
        except _Error as error:
            code = error.args[0]
            self._send({'error': {'code': code, 'message': f'{code} of the fake bucket'}}, code)

    def _read(self) -> bytes:
        if self.headers.get('Transfer-Encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b''.join(chunks)

    def _send(self, content: dict | bytes, code: int = 200, **headers):
        if isinstance(content, dict):
            content, headers['Content-Type'] = json.dumps(content).encode(), 'application/json'
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        if code not in (204, 304):
            self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if code not in (204, 304):
            self.wfile.write(content)

    def _bucket(self, bucket):
        self._send({'kind': 'storage#bucket', 'name': bucket, 'id': bucket})

    def _list(self, bucket):
        prefix, delimiter = self.query.get('prefix', ''), self.query.get('delimiter')
        start, end = self.query.get('startOffset', ''), self.query.get('endOffset')
        found = {}  # object or common prefix -> whether it is an object
        for owner, name in sorted(self.server.objects):
            if owner != bucket or not name.startswith(prefix) or name < start:
                continue
            if end and name >= end:
                continue
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else ('', '', '')
            found[prefix + head + cut if cut else name] = not cut
        first = int(self.query.get('pageToken', 0))
        last = first + min(int(self.query.get('maxResults', _PAGE)), _PAGE)
        page = list(found.items())[first:last]
        answer = {
            'kind': 'storage#objects',
            'items': [self.server.describe(bucket, name) for name, whole in page if whole],
            'prefixes': [name for name, whole in page if not whole],
        }
        self._send(answer | ({'nextPageToken': str(last)} if last < len(found) else {}))

    def _get(self, bucket, name):
        self._check(bucket, name)
        if (bucket, name) not in self.server.objects:
            raise _Error(404)
        if self.query.get('alt') != 'media':
            return self._send(self.server.describe(bucket, name))
        content, generation = self.server.objects[bucket, name]
        headers = {
            'Content_Type': 'application/octet-stream',
            'X_Goog_Generation': str(generation),
            'X_Goog_Stored_Content_Length': str(len(content)),
        }
        if not (span := self.headers.get('Range')):
            return self._send(content, **headers)
        first, last = re.fullmatch(r'bytes=(\d*)-(\d*)', span).groups()
        first = int(first) if first else max(len(content) - int(last), 0)
        last = min(int(last), len(content) - 1) if last and span[6] != '-' else len(content) - 1
        if first > last:
            raise _Error(416)
        headers['Content_Range'] = f'bytes {first}-{last}/{len(content)}'
        self._send(content[first : last + 1], 206, **headers)

    def _delete(self, bucket, name):
        self._check(bucket, name)
        if self.server.objects.pop((bucket, name), None) is None:
            raise _Error(404)
        self._send(b'', 204)

    def _move(self, bucket, name, target):
        if (bucket, name) not in self.server.objects:
            raise _Error(404)
        self.server.put(bucket, target, self.server.objects.pop((bucket, name))[0])
        self._send(self.server.describe(bucket, target))

    def _upload(self, bucket):
        kind, name = self.query['uploadType'], self.query.get('name')
        if kind == 'resumable' and 'upload_id' not in self.query:
            name = name or json.loads(self.content)['name']
            key = str(next(self.server.generations))
            self.server.uploads[key] = bucket, name, b''
            place = f'{self.server.address}/upload/storage/v1/b/{bucket}/o?uploadType=resumable'
            return self._send({}, Location=f'{place}&upload_id={key}')
        if kind == 'resumable':
            return self._resume(bucket)
        content = self.content
        if kind == 'multipart':
            mark = re.search('boundary="?([^";]+)"?', self.headers['Content-Type'])[1].encode()
            _, head, content, _ = re.split(rb'\r?\n?--' + re.escape(mark), content)
            name = json.loads(re.split(rb'\r?\n\r?\n', head, maxsplit=1)[1])['name']
            content = re.split(rb'\r?\n\r?\n', content, maxsplit=1)[1]
        self._check(bucket, name)
        self.server.put(bucket, name, content)
        self._send(self.server.describe(bucket, name))

    def _resume(self, bucket):
        key = self.query['upload_id']
        bucket, name, content = self.server.uploads[key]
        content += self.content
        self.server.uploads[key] = bucket, name, content
        if self.headers.get('Content-Range', '').endswith('/*'):  # the whole size is not known yet
            return self._send(b'', 308, Range=f'bytes=0-{len(content) - 1}')
        self.server.put(bucket, name, content)
        self._send(self.server.describe(bucket, name))

    def _check(self, bucket, name):
        """The conditions on generations by which TensorStore writes atomically."""
        present = str(self.server.objects.get((bucket, name), (b'', 0))[1])
        if self.query.get('ifGenerationMatch', present) != present:
            raise _Error(412)
        if self.query.get('ifGenerationNotMatch') == present:
            raise _Error(304)

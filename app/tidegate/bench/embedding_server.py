"""A small embedding service that speaks OpenAI's protocol over HTTP on loopback: `python -m … PORT_FILE`.

Its models put texts where their words put them: each word has a direction of its own, by the model's name, and a
text is what its words have in common. So texts about the same are near each other, two models disagree on how near,
and who knows model and text knows the vector without asking: so a benchmark tells under which model a search was made.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.bench.report import BenchFailed
from tidegate.index.embedding.embedder import Vectors

DIMENSION = 256


@lru_cache(maxsize=200_000)
def _direction(model: str, word: str) -> Vectors:
    seed = int.from_bytes(hashlib.sha256(f"{model} {word}".encode()).digest()[:8], "big")
    made: Vectors = np.random.default_rng(seed).standard_normal(DIMENSION, dtype=np.float32)
    return made


def embed(model: str, texts: Sequence[str]) -> Vectors:
    """Vectors of length 1, `(n, DIMENSION) float32`."""
    found = np.zeros((len(texts), DIMENSION), dtype=np.float32)
    for place, text in enumerate(texts):
        for word in text.lower().split() or ("",):
            found[place] += _direction(model, word)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    normalised: Vectors = (found / np.clip(lengths, 1e-9, None)).astype(np.float32)
    return normalised


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        vectors = embed(asked["model"], texts)
        data = [{"object": "embedding", "index": n, "embedding": v.tolist()} for n, v in enumerate(vectors)]
        words = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": words, "total_tokens": words}
        payload = json.dumps({"object": "list", "data": data, "model": asked["model"], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        """Says nothing of each call."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 64


@contextlib.contextmanager
def service() -> Iterator[str]:
    """The service in a process of its own; its base URL."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "port"
        command = [sys.executable, "-m", "tidegate.bench.embedding_server", str(port)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 30
                while not port.exists():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise BenchFailed("the embedding service did not start")
                    time.sleep(0.05)
                yield f"http://127.0.0.1:{port.read_text(encoding='utf-8')}/v1"
            finally:
                process.terminate()


def main() -> None:
    """Serves until it is ended; its port goes to the file that is named."""
    server = _Server(("127.0.0.1", 0), _Handler)
    path = Path(sys.argv[1])
    part = path.with_suffix(".part")
    part.write_text(str(server.server_port), encoding="utf-8")
    part.rename(path)
    server.serve_forever()


if __name__ == "__main__":
    main()

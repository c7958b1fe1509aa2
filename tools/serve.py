"Serve a built site on this machine, compressed and isolated, so that a page may use threads: `tools/serve.py _docs`."
import argparse
import functools
import gzip
import http.server
import mimetypes
from pathlib import Path

PACKED = (".html", ".css", ".js", ".mjs", ".json", ".svg", ".txt", ".md", ".wasm", ".onnx")
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
            "Cross-Origin-Resource-Policy": "same-origin"}
for ending, kind in ((".mjs", "text/javascript"), (".js", "text/javascript"), (".wasm", "application/wasm"),
                     (".onnx", "application/octet-stream")): mimetypes.add_type(kind, ending)


@functools.lru_cache(maxsize=64)
def packed(path:Path, changed:int)->bytes: # of a file; when it was written, so that a new one is packed again
    "Compress a file once."
    return gzip.compress(path.read_bytes(), 6, mtime=0)


class Handler(http.server.SimpleHTTPRequestHandler):
    "Files of a folder, compressed where the browser takes it."
    protocol_version = "HTTP/1.1"
    isolated, quiet = True, False

    def end_headers(self):
        if self.isolated:
            for name, value in ISOLATED.items(): self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.is_dir() and self.path.endswith("/"): path = path/"index.html"
        takes = "gzip" in self.headers.get("Accept-Encoding", "")
        if not (takes and path.is_file() and path.suffix in PACKED): return super().do_GET()
        data = packed(path, path.stat().st_mtime_ns)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        if not self.quiet: super().log_message(*args)


def server(folder:Path, port:int=0, isolated:bool=True, quiet:bool=True): # port 0: any that is free
    "Make a server of a folder; `serve_forever` starts it."
    handler = type("Site", (Handler,), dict(isolated=isolated, quiet=quiet))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(handler, directory=str(folder)))


def main():
    "Serve until Ctrl-C."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("_docs"), help="of the built site")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--plain", action="store_true", help="without isolation, as most static hosts")
    args = parser.parse_args()
    site = server(args.folder, args.port, not args.plain, quiet=False)
    print(f"Serving {args.folder} on http://127.0.0.1:{site.server_port}, Ctrl-C stops", flush=True)
    try: site.serve_forever()
    except KeyboardInterrupt: site.server_close()


if __name__ == "__main__": main()

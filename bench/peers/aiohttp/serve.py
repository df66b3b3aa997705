"""The pages on aiohttp with uvloop, one process on the first of its cores.

    python serve.py --listen 127.0.0.1:8000 --cores 0
"""

import argparse
import asyncio
import html
import os

import uvloop
from aiohttp import web

DOWNLOAD = b"x" * 102400


async def index(_request):
    return web.Response(text="<h1>Index</h1>", content_type="text/html")


async def hello(request):
    name = html.escape(request.match_info["name"])
    return web.Response(text=f"<h1>hello, {name}!</h1>", content_type="text/html")


async def upload(request):
    total = 0
    async for piece in request.content.iter_any():
        total += len(piece)
    return web.Response(text=str(total))


async def download(_request):
    return web.Response(body=DOWNLOAD, content_type="application/octet-stream")


async def serve(host, port):
    application = web.Application(client_max_size=1 << 30)
    application.add_routes([web.get("/", index), web.get("/hello/{name}", hello), web.post("/upload", upload),
                            web.get("/download/100k", download)])
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=3600)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=4096, reuse_port=True).start()
    await asyncio.Event().wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:8000")
    parser.add_argument("--cores", default="0")
    options = parser.parse_args()
    os.sched_setaffinity(0, {int(options.cores.split(",")[0])})
    host, _, port = options.listen.rpartition(":")
    uvloop.run(serve(host, int(port)))


if __name__ == "__main__":
    main()

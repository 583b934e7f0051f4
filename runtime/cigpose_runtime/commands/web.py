"""`cigpose-runtime web`: a page that runs models in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from cigpose_runtime.commands import options
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.terminal import echo
from cigpose_runtime.web.engine import VERSION, engine_files
from cigpose_runtime.web.folder import read_folder

DEFAULT_PORT = 8000
ENGINE_FOLDER = Path("node_modules/onnxruntime-web")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to those of `cigpose-runtime`."""
    parser = commands.add_parser(
        "web",
        help="serve a page on localhost that runs models in the browser",
        description="Serves a page for those on this machine who know its address. Models, "
        "pictures, clips and the camera stay in the browser. Ctrl-C ends it.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="models, pictures and clips to choose from on the page, as a release",
    )
    parser.add_argument(
        "--engine",
        type=Path,
        default=ENGINE_FOLDER,
        metavar="DIR",
        help=f"the npm package onnxruntime-web {VERSION}  [default: {ENGINE_FOLDER}]",
    )
    parser.add_argument(
        "--port",
        type=options.whole_number(0, 65535),
        default=DEFAULT_PORT,
        help=f"0 takes a free one  [default: {DEFAULT_PORT}]",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write the page into a new folder, for any web server, and serve nothing",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> list[CigposeError]:
    """Serves until Ctrl-C, or writes a site."""
    from cigpose_runtime.web.server import WebServer, page_files, write_site

    files = page_files(engine_files(args.engine), read_folder(args.folder))
    if args.out is not None:
        write_site(files, args.out)
        return []
    with WebServer(args.port, files) as server:
        echo(f"open {server.url}", err=True)
        server.serve_forever()
    return []

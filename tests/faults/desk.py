"""Calls the project's functions from inside a process of the project, on behalf of a test.

Usage: python -m tests.faults.desk PORT. On each connection: one order a line, one answer a line,
in JSON. An order is {"function": dotted path, "arguments": {...}, "atomic": bool}; an argument
{"row": "app.Model", "id": ...} stands for that row. An answer is {"result": ...} or
{"error": name of the class, "message": ...}. Orders on several connections run side by side.
"""

from __future__ import annotations

import json
import socketserver
import sys
from contextlib import nullcontext
from typing import Any

import django

ANY_ERROR = Exception  # a test wants to hear of every one


class Desk(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 100


class Clerk(socketserver.StreamRequestHandler):
    """Serves one connection."""

    def handle(self) -> None:
        from django.db import close_old_connections, connections

        for line in self.rfile:
            close_old_connections()
            self.wfile.write(json.dumps(answer(json.loads(line)), default=plain).encode() + b"\n")
        connections.close_all()


def answer(order: dict[str, Any]) -> dict[str, Any]:
    from django.db import transaction
    from django.utils.module_loading import import_string

    try:
        function = import_string(order["function"])
        arguments = {name: meant(value) for name, value in order["arguments"].items()}
        with transaction.atomic() if order["atomic"] else nullcontext():
            return {"result": function(**arguments)}
    except ANY_ERROR as error:
        return {"error": type(error).__name__, "message": str(error)}


def meant(value: Any) -> Any:
    """What an argument stands for."""
    if isinstance(value, dict) and value.keys() == {"row", "id"}:
        from django.apps import apps

        return apps.get_model(value["row"])._default_manager.get(pk=value["id"])
    return value


def plain(value: Any) -> Any:
    """A row as its columns; whatever else JSON does not know as text."""
    from django.db.models import Model

    if isinstance(value, Model):
        return {field.attname: getattr(value, field.attname) for field in value._meta.fields}
    return str(value)


if __name__ == "__main__":
    django.setup()
    with Desk(("127.0.0.1", int(sys.argv[1])), Clerk) as desk:
        desk.serve_forever()

"""`protoc-gen-mulligan`: the plugin that protoc runs to make smart clients.

It reads a CodeGeneratorRequest from standard input and writes a CodeGeneratorResponse to standard output.
"""

from __future__ import annotations

import sys

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse

from mulligan.codegen.model import InvalidApi, read_api
from mulligan.codegen.python import client_path, render_client


def respond(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """One client module for each service, or the error that protoc shows."""
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    try:
        for service in read_api(request).services:
            response.file.add(name=client_path(service), content=render_client(service))
    except InvalidApi as error:
        del response.file[:]
        response.error = str(error)
    return response


def main() -> int:
    """Serves protoc once; returns a process exit code."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(respond(request).SerializeToString())
    return 0

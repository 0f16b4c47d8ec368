"""Vectors as parameters, wherever pgvector is installed and without asking the database for the type's number."""

from pgvector import Vector
from pgvector.psycopg.vector import VectorBinaryDumper
from psycopg import adapters
from psycopg.adapt import AdaptersMap


class _Undeclared(VectorBinaryDumper):
    """Sends no type: the server takes the parameter's type from the function that it is for."""

    oid = 0


def vector_adapters() -> AdaptersMap:
    """psycopg's adapters, and `Vector` as a parameter, for the `context` of a connection."""
    own = AdaptersMap(adapters)
    own.register_dumper(Vector, _Undeclared)
    return own

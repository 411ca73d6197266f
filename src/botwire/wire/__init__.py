"""The HTTP interface as values: paths, request and response bodies, problems and events."""

from .responses import *  # temporary

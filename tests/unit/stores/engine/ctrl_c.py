"""Ctrl-C at every place of some code where CPython checks for signals."""

from __future__ import annotations

import dis
import sys
import threading

LOOKS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD"}
"""After these instructions CPython checks for signals."""


TOOL = 4
"""A number of a tool of `sys.monitoring` that no other tool uses."""


class Strike:
    """Ctrl-C in this thread at the nth place in some files where CPython checks for signals. Keeps the error, as a notebook does.

    Every Python instruction calls `_step`. Python 3.11 reports them by `sys.settrace`. Later versions have `sys.monitoring`;
    their `settrace` reports the instructions of a function from its second call on only.
    """

    def __init__(self, folder, nth):
        self.folder, self.left, self.error = folder, nth, None
        self.names, self.last, self.thread = {}, {}, threading.get_ident()

    def __enter__(self):
        if sys.version_info >= (3, 12):
            sys.monitoring.use_tool_id(TOOL, "strike")
            sys.monitoring.register_callback(TOOL, sys.monitoring.events.INSTRUCTION, self._instruction)
            sys.monitoring.set_events(TOOL, sys.monitoring.events.INSTRUCTION)
        else:
            sys.settrace(self._call)
        return self

    def __exit__(self, kind, error, traceback):
        if sys.version_info >= (3, 12):
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.register_callback(TOOL, sys.monitoring.events.INSTRUCTION, None)
            sys.monitoring.free_tool_id(TOOL)
        else:
            sys.settrace(None)
        self.error = error
        return kind is KeyboardInterrupt

    def _instruction(self, code, offset):
        if code.co_filename.startswith(self.folder) and threading.get_ident() == self.thread:
            self._step(sys._getframe(1), offset)

    def _call(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(self.folder) or self.left < 0:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.last.pop(id(frame), None)
        return self._opcode

    def _opcode(self, frame, event, argument):
        if event == "opcode":
            self._step(frame, frame.f_lasti)
        return self._opcode

    def _step(self, frame, offset):
        if self.left < 0:
            return
        code = frame.f_code
        if code not in self.names:
            self.names[code] = {item.offset: item.opname for item in dis.get_instructions(code)}
        of, before = self.last.get(id(frame), (None, 0))  # the last frame with this id may have been another one
        self.last[id(frame)] = code, offset
        if of is code and self.names[code][before] in LOOKS:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


def strikes(folder, act, *, keep=True):
    """Do it again and again, each time struck one place later, until it comes through. `keep`: keep the error until the next."""
    for nth in range(10_000):
        strike = Strike(folder, nth)
        with strike:
            act()
        if strike.error is None:
            return
        if not keep:
            strike.error = None
        yield nth

"""Terminal: `duet` behind a pseudo-terminal, as a person has it."""
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

from cluster import Failed, clean_environment

PROMPT = "duet> "


class Terminal:
    def __init__(self, argv, environment=(), width=100, height=30):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, {**clean_environment(), "TERM": "xterm", **dict(environment)})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.text, self.code = "", None

    def _read(self):
        """More of its output; False: it has ended."""
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.text += data.decode(errors="replace").replace("\r", "")
        return data != b""

    def wait(self, part, timeout=30):
        """Until part stands in the output; returns what came up to there and takes it away."""
        until = time.monotonic() + timeout
        while part not in self.text:
            if not self._read() or time.monotonic() > until:
                raise Failed(f"the terminal does not show {part!r} but {self.text!r}")
        before, self.text = self.text.split(part, 1)
        return plain(before + part)

    def send(self, keys):
        os.write(self.fd, keys.encode())

    def line(self, keys):
        """Type a line; what it printed until the next prompt."""
        self.send(keys + "\r")
        shown = self.wait(PROMPT)
        return shown[:-len(PROMPT)].split("\n", 1)[1]

    def finish(self, keys, timeout=30, raw=False):
        """Type, and wait until it ends; its exit code. raw: text keeps colours."""
        self.send(keys)
        until = time.monotonic() + timeout
        while self._read():
            if time.monotonic() > until:
                raise Failed(f"it does not end but shows {self.text!r}")
        self.text = self.text if raw else plain(self.text)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return self.code


def plain(text):
    """Without what moves the cursor and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", text)

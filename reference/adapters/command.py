"""A program in any language. It is called once for every case, with the name of a folder as its last argument.

The folder holds `request.json`:

    {"equation": "soft_labels.classes", "dtype": "float64", "attrs": {"temperature": 3.0},
     "inputs": {"student_logits": {"dtype": "float64", "shape": [5, 11], "data": [0.25, ...]}, ...},
     "gradients": ["student_logits"],
     "upstream": {"value": {"dtype": "float64", "shape": [], "data": [-2.5]}}}

dtype is what to compute in; a more exact answer is right, too. data are plain numbers with all their digits, the last
axis fastest; 1e999 is infinity, null is NaN; true and false are 1 and 0, of the dtype bool. Attrs and inputs stand
before everything else that may have their names, so that a program without a JSON library can look for `"NAME":`.
`inputs.safetensors` holds the inputs again.

The program writes `outputs.json` into the folder,

    {"value": 0.5, "dstudent_logits": {"shape": [5, 11], "data": [...]}}

where a tensor may be a number or lists of lists, too, or `outputs.safetensors` with the same names. It may leave
gradients out. Exit code 0: done; 3: does not compute this equation, or not in this dtype; any other: refuses, and the
last line of standard error says why.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy

from tinydistill_reference.adapters.target import TargetError
from tinydistill_reference.equation import is_floating

SECONDS = 60
NOT_IMPLEMENTED = 3
NOISE = re.compile(r"\s+at |Node\.js v|note: ")      # what interpreters print behind the message


class CommandError(RuntimeError):
    """The program ended with an exit code, or without an answer."""


class Command:
    """The `call` of a program: its words, and how long it may take for a case."""

    untaken = ""

    def __init__(self, words, seconds=SECONDS):
        self.words, self.seconds = words, seconds

    @property
    def bound(self):
        return f"{shlex.join(self.words)} FOLDER"

    def __call__(self, equation, attrs, inputs, grads, upstream, dtype):
        with tempfile.TemporaryDirectory(prefix="tinydistill-") as name:
            folder = Path(name)
            upstream = upstream if isinstance(upstream, dict) else {"value": upstream}
            write_request(folder, equation, attrs, inputs, grads, upstream, dtype)
            if self._run(folder) == NOT_IMPLEMENTED:
                return NotImplemented
            return read_answer(folder)

    def _run(self, folder):
        """The exit code, if it is 0 or 3."""
        with open(folder / "stderr", "wb") as stderr:
            process = subprocess.Popen([*self.words, str(folder)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=stderr, start_new_session=True)
            try:
                code = process.wait(self.seconds)
            except subprocess.TimeoutExpired:
                raise CommandError(f"no answer within {self.seconds:g} seconds") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)          # and what it has started
                    process.wait()
        if code not in (0, NOT_IMPLEMENTED):
            lines = (folder / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
            told = [line.strip() for line in lines if line.strip() and not NOISE.match(line)] or ["it does not say why"]
            raise CommandError(f"{told[-1]} (exit code {code})" if code > 0 else f"{told[-1]} (signal {-code})")
        return code


def adapt(target, seconds=SECONDS):
    """A `call`. target: a command as one would type it (no shell reads it), or its words."""
    words = shlex.split(target) if isinstance(target, str) else list(target)
    if not words or shutil.which(words[0]) is None:
        raise TargetError(f"no program {words[0]}" if words else "need a command, got nothing")
    return Command(words, seconds)


def write_request(folder, equation, attrs, inputs, grads, upstream, dtype):
    """request.json and inputs.safetensors. upstream: {output: gradient}."""
    request = {"equation": equation, "dtype": dtype, "attrs": attrs,
               "inputs": {name: _plain(x) for name, x in inputs.items()},
               "gradients": list(grads), "upstream": {name: _plain(u) for name, u in upstream.items()}}
    text = json.dumps(request).replace("Infinity", "1e999").replace("NaN", "null")
    (folder / "request.json").write_text(text + "\n", encoding="utf-8")
    safetensors.numpy.save_file({n: np.ascontiguousarray(x) for n, x in inputs.items()}, folder / "inputs.safetensors")


def _plain(x):
    x = np.asarray(x)
    data = x.astype(np.uint8) if x.dtype == bool else x.astype(np.float64) if is_floating(x) else x
    return {"dtype": str(x.dtype), "shape": x.shape, "data": data.ravel().tolist()}


def read_answer(folder):
    """{tensor: array} of outputs.json or outputs.safetensors."""
    if (folder / "outputs.safetensors").exists():
        return safetensors.numpy.load_file(folder / "outputs.safetensors")
    if not (folder / "outputs.json").exists():
        raise CommandError("the program wrote neither outputs.json nor outputs.safetensors")
    try:
        answer = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
    except ValueError as problem:
        raise CommandError(f"outputs.json is no JSON: {problem}") from None
    if not isinstance(answer, dict):
        raise CommandError("outputs.json: need an object with the names of outputs")
    return {name: _array(name, x) for name, x in answer.items()}


def _array(name, x):
    try:
        if isinstance(x, dict):
            return np.array(x["data"], np.float64).reshape(x["shape"])
        return np.array(x, np.float64)
    except (KeyError, TypeError, ValueError) as problem:
        raise CommandError(f"outputs.json: {name} is no tensor: {problem}") from None

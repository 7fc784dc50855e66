"""A process that is killed in the middle of a save: nothing acknowledged is lost.

Run as a script, this file is the machine: it forks processes that save, kills them, and looks at what is left.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from failing_disk import At, holds, in_memory, mends, operations, state, two_steps, watched, work

import tinydistill
from tinydistill.errors import Problem
from tinydistill.training import checkpoints

KILLS, SECONDS = 200, 25                            # as many as fit in this time


def machine(*arguments):
    """What this file prints when it is run as a script."""
    environment = os.environ | {"PYTHONPATH": str(Path(tinydistill.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, *map(str, arguments)], env=environment,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kill_at_any_operation():
    with in_memory() as path:
        results = machine("operations", path)
    assert len(results) > 70
    assert {place: result for place, result in results.items() if result != [9, True]} == {}


def kill_at_operations(tmp_path):
    """{operation and event: (exit code of the killed, whether all is well after it)}."""
    start, results = two_steps(tmp_path / "start"), {}
    for place, name in enumerate(operations(start)):
        for event in ("kill", "torn write"):
            directory = shutil.copytree(start, tmp_path / f"{place} {event}")
            note = tmp_path / f"{place} {event}.acknowledged"
            child = os.fork()
            if child == 0:
                with watched(At(place, event)):
                    work(directory, lambda step: note.touch())
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            results[f"{place} {name}, {event}"] = code, mends(directory, note.exists())
    return results


def test_kill_at_random_times(tmp_path):
    """kill -9 in the middle of saves, again and again in one folder: each time the newest is right."""
    result = machine("random", tmp_path)
    print("kill -9: " + ", ".join(f"{number} {name}" for name, number in result.items()))
    assert result["kills"] >= 30 and result["lost"] == result["unreadable"] == 0
    assert result["inside a save"] > result["kills"] / 10 and result["steps"] > 3


def kill_at_random_times(directory):
    chance, kills, lost, unreadable, inside, last = random.Random(0), 0, 0, 0, 0, 0
    checkpoints.save(directory, 0, *state(0))
    since = time.perf_counter()
    checkpoints.save(directory, 1, *state(1))
    patience = min(0.05, 6 * (time.perf_counter() - since))
    while kills < KILLS and time.perf_counter() < since + SECONDS:
        listen, tell = os.pipe()
        child = os.fork()
        if child == 0:
            save_for_ever(directory, tell)
        os.close(tell)
        os.read(listen, 1)                          # until it has begun
        time.sleep(chance.uniform(0, patience))
        os.kill(child, signal.SIGKILL)
        kills += os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        with open(listen) as acknowledged:
            last = max([last, *map(int, acknowledged)])
        inside += any(path.suffix == ".tmp" for path in directory.iterdir())
        try:
            found = checkpoints.load(directory)
            lost, unreadable = lost + (found[0] < last), unreadable + (not holds(found))
        except Problem:
            unreadable += 1
    return {"kills": kills, "inside a save": inside, "steps": last, "lost": lost, "unreadable": unreadable}


def save_for_ever(directory, tell):
    """Save the next step, and the next, and write the number of each to a pipe once it is safe."""
    try:
        checkpoints.clean(directory)
        first = checkpoints.load(directory)[0] + 1
        os.write(tell, b".")
        for step in itertools.count(first):
            checkpoints.save(directory, step, *state(step))
            os.write(tell, b"%d\n" % step)
            checkpoints.prune(directory)
    finally:
        os._exit(1)


if __name__ == "__main__":
    command, where = sys.argv[1], Path(sys.argv[2])
    print(json.dumps({"operations": kill_at_operations, "random": kill_at_random_times}[command](where)))

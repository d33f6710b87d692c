"""A prediction as a job array under a real SLURM of one node on this machine, one task of it killed in the middle and put back into the
queue. Skipped where SLURM's daemons are not installed (Debian: slurmctld, slurmd, slurm-client) or may not be started."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.unit.engine.tiny import tiny_dataset, tiny_plan, write_run, write_scans
from vesalius.engine.predict import predict
from vesalius.engine.state import save_weights
from vesalius.io import load
from vesalius.plan import build

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue")
PARTS, CASES = 3, 9
PATIENCE = 300  # seconds that anything is waited for
SOURCES = Path(__file__).parents[2] / "src"

missing = [name for name in PROGRAMS if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(missing) or os.getuid() != 0, reason=f"SLURM is not here: {', '.join(missing) or 'not root'}")

CONFIG = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
SlurmctldPort={first}
SlurmdPort={second}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,requeue_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={parts} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

ARRAY = """#!/bin/bash
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={folder}/said-%a.txt
export PYTHONPATH={sources} OMP_NUM_THREADS=1
echo "start ${{SLURM_RESTART_COUNT:-0}} of task $SLURM_ARRAY_TASK_ID"
run="{python} -m vesalius"
if [ "$SLURM_ARRAY_TASK_ID" = 1 ] && [ "${{SLURM_RESTART_COUNT:-0}}" = 0 ]; then run="{python} {folder}/hangs.py"; fi
exec $run predict {folder}/run {folder}/in -o {folder}/out --num-parts {parts} --part-id "$SLURM_ARRAY_TASK_ID"
"""

HANGS = """
import sys, time
from vesalius.cli.main import main
from vesalius.engine.run import Run

own = Run.network


def network(self, voice):
    net = own(self, voice)
    calls = []

    def first_alone(module, inputs):
        calls.append(1)
        if len(calls) > 1:
            time.sleep(3600)

    net.register_forward_pre_hook(first_alone)
    return net


Run.network = network
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def slurm(tmp_path):
    """Words to call a program of a cluster that is this machine; its daemons end with the test."""
    config = tmp_path / "slurm.conf"
    first, second = free_ports(2)
    (tmp_path / "state").mkdir(), (tmp_path / "spool").mkdir()
    host = socket.gethostname().partition(".")[0]
    config.write_text(CONFIG.format(host=host, folder=tmp_path, first=first, second=second, parts=PARTS))
    where = {**os.environ, "SLURM_CONF": str(config)}

    def call(*words):
        done = subprocess.run([str(word) for word in words], env=where, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    with contextlib.ExitStack() as daemons:
        for name, more in (("slurmctld", []), ("slurmd", ["-N", host])):
            said = daemons.enter_context(open(tmp_path / f"{name}.txt", "w"))
            words = [shutil.which(name), "-D", "-f", config, *more]
            daemon = subprocess.Popen([str(word) for word in words], env=where, stdout=said, stderr=subprocess.STDOUT)
            daemons.callback(daemon.wait, PATIENCE)
            daemons.callback(daemon.terminate)
        if not waited(lambda: "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], env=where, capture_output=True, text=True).stdout, 60):
            pytest.skip(f"SLURM does not start here: {(tmp_path / 'slurmctld.txt').read_text()[-500:]}")
        yield call


def free_ports(number):
    with contextlib.ExitStack() as all_:
        sockets = [all_.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def waited(happened, seconds=PATIENCE):
    limit = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < limit:
        time.sleep(0.2)
    return found


def answers(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.nii.gz")}


def test_an_array_of_which_one_task_is_killed_answers_every_case_once(tmp_path, slurm):
    write_scans(tmp_path / "cohort", CASES, side=10)
    (tmp_path / "cohort" / "images").rename(tmp_path / "in")
    plan = tiny_plan(("train.precision=fp32", "predict.batch=1", "patch.size=[16,16,16]"))
    run = write_run(tmp_path / "run", tiny_dataset(), plan)
    save_weights(run.path / "weights.safetensors", build(plan.net, 1, 2).state_dict(), {"final": True})
    (tmp_path / "hangs.py").write_text(HANGS)
    words = {"folder": tmp_path, "sources": SOURCES, "python": sys.executable, "parts": PARTS, "last": PARTS - 1}
    (tmp_path / "array.sh").write_text(ARRAY.format(**words))

    job = slurm("sbatch", "--parsable", tmp_path / "array.sh")
    others = CASES - CASES // PARTS
    assert waited(lambda: len(answers(tmp_path / "out")) == others + 1), said(tmp_path)
    before = answers(tmp_path / "out")
    slurm("scontrol", "requeue", f"{job}_1")  # kills the task, which hangs in its second case, and starts it again
    assert waited(lambda: not slurm("squeue", "-h", "-j", job)), said(tmp_path)

    after = answers(tmp_path / "out")
    assert len(after) == CASES and all(after[name] == before[name] for name in before), said(tmp_path)
    assert "start 1 of task 1" in (tmp_path / "said-1.txt").read_text()
    predict(tmp_path / "run", tmp_path / "in", tmp_path / "alone")
    for name in answers(tmp_path / "alone"):
        np.testing.assert_array_equal(load(tmp_path / "out" / name).array, load(tmp_path / "alone" / name).array)


def said(folder):
    return "\n".join(path.read_text()[-1500:] for path in sorted(folder.glob("*.txt")))

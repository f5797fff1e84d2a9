"""Interrupted at any moment, by any means, a training ends as if it had never stopped."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tailwise.errors import CheckpointError
from tailwise.training import FitResult, TrainingInterrupted, TrainingProgress, load_newest_checkpoint

from .builders import CONFIG, METHODS, Training, course, same


class CrashError(Exception):
    pass


def crash_at(step: int):
    def progress(state: TrainingProgress) -> None:
        if state.step == step:
            raise CrashError

    return progress


Whole = tuple[FitResult, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    """Each method, uninterrupted."""
    ends = {}
    for method in METHODS:
        training = Training(tmp_path_factory.mktemp(method), method)
        result = training.run()
        ends[method] = (result, training.parameters())
    assert ends["adamw"][0].n_steps >= 6  # enough moments to be interrupted at
    return ends


@pytest.mark.parametrize("checkpoint_seconds", [0, 1e9], ids=["saved-every-step", "saved-every-epoch"])
@pytest.mark.parametrize("method", METHODS)
def test_a_training_that_crashed_at_any_step_ends_bitwise_like_an_uninterrupted_one(
    method, checkpoint_seconds, whole, tmp_path
):
    result, parameters = whole[method]
    config = Training(tmp_path).config.__class__(
        **(CONFIG.__dict__ | {"checkpoint_seconds": checkpoint_seconds})
    )
    for step in range(1, result.n_steps + 1):
        training = Training(tmp_path / str(step), method, config)
        with pytest.raises(CrashError):
            training.run(progress=crash_at(step))
        resumed = training.again()
        assert course(resumed.run()) == course(result), step
        assert same(resumed.parameters(), parameters), step


@pytest.mark.parametrize("checkpoint_seconds", [0, 1e9], ids=["saved-every-step", "saved-every-epoch"])
def test_a_training_that_keeps_the_last_epoch_ends_bitwise_alike_wherever_it_crashed(
    checkpoint_seconds, tmp_path
):
    config = replace(CONFIG, keep="last", patience=1, max_epochs=3, checkpoint_seconds=checkpoint_seconds)
    training = Training(tmp_path / "whole", config=config)

    def falling(training: Training) -> float:
        return 1 - training.validate()  # as it learns: the first epoch is best, the last is kept

    result = training.run(validate=lambda: falling(training))
    assert (result.best_epoch, result.kept_epoch) == (1, 3)
    for step in range(1, result.n_steps + 1):
        crashed = Training(tmp_path / str(step), config=config)
        with pytest.raises(CrashError):
            crashed.run(progress=crash_at(step), validate=lambda crashed=crashed: falling(crashed))
        # Twice: the second finds a finished training, and must put the last epoch's parameters in place.
        for _ in range(2):
            resumed = crashed.again()
            end = resumed.run(validate=lambda resumed=resumed: falling(resumed))
            assert course(end) == course(result), step
            assert same(resumed.parameters(), training.parameters()), step


def test_a_training_that_crashes_after_every_single_step_still_arrives(whole, tmp_path):
    result, parameters = whole["eisam"]
    for _ in range(3 * result.n_steps):
        training = Training(tmp_path, "eisam")
        n_steps_of_this_sitting = 0

        def progress(state: TrainingProgress) -> None:
            nonlocal n_steps_of_this_sitting
            n_steps_of_this_sitting += 1
            if n_steps_of_this_sitting == 2:  # the first step of a sitting is saved, the second lost
                raise CrashError

        try:
            end = training.run(progress=progress)
            break
        except CrashError:
            continue
    assert course(end) == course(result)
    assert same(training.parameters(), parameters)


def test_a_training_that_crashes_while_it_validates_ends_alike(whole, tmp_path):
    result, parameters = whole["sam"]

    def crash() -> float:
        raise CrashError

    with pytest.raises(CrashError):
        Training(tmp_path, "sam").run(validate=crash)
    resumed = Training(tmp_path, "sam")
    assert course(resumed.run()) == course(result)
    assert same(resumed.parameters(), parameters)


def test_a_finished_training_is_not_repeated(whole, tmp_path):
    training = Training(tmp_path)
    first = training.run()
    again = training.again()

    def never(state: TrainingProgress) -> None:
        raise AssertionError("a step was taken")

    second = again.run(progress=never)
    assert course(second) == course(first)
    assert second.train_seconds == first.train_seconds
    assert same(again.parameters(), training.parameters())


_KILLED_AGAIN_AND_AGAIN = """
import os, signal, sys, time
import torch
from pathlib import Path
from tests_training_builders import Training
torch.set_num_threads(1)
method, scratch, *kills = sys.argv[1:]
Training(Path("nowhere"), method)  # imports what the children need


def sitting(folder):
    child = os.fork()
    if not child:
        Training(Path(folder), method).run()
        os._exit(0)
    return child


started = time.monotonic()
os.waitpid(sitting(scratch), 0)
whole_sitting = time.monotonic() - started
for kill in kills:
    folder, share = kill.split("@")
    child = sitting(folder)
    time.sleep(float(share) * whole_sitting)
    os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_training_killed_at_random_moments_ends_bitwise_like_an_uninterrupted_one(method, whole, tmp_path):
    """SIGKILL, with no chance to clean up, six times in a row; four trainings."""
    result, parameters = whole[method]
    builders = Path(__file__).with_name("builders.py").read_text()
    (tmp_path / "tests_training_builders.py").write_text(builders)
    rng = random.Random(method)
    folders = [tmp_path / f"training-{i}" for i in range(4)]
    # Shares of the time that a whole training takes.
    kills = [f"{folder}@{rng.uniform(0.05, 0.6)}" for folder in folders for _ in range(6)]
    killer = subprocess.run(
        [sys.executable, "-c", _KILLED_AGAIN_AND_AGAIN, method, str(tmp_path / "timing"), *kills],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    for folder in folders:
        resumed = Training(folder, method)
        assert course(resumed.run()) == course(result)
        assert same(resumed.parameters(), parameters)
    exits = killer.stdout.split()
    assert exits.count("-9") >= len(folders), exits  # else the children were too quick to be killed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_between_two_steps_and_the_training_can_go_on(number, whole, tmp_path):
    result, parameters = whole["eisam"]
    config = CONFIG.__class__(**(CONFIG.__dict__ | {"checkpoint_seconds": 1e9}))
    before = signal.getsignal(number)

    def interrupt(state: TrainingProgress) -> None:
        if state.step == 4:
            os.kill(os.getpid(), number)

    with pytest.raises(TrainingInterrupted, match="stopped at step 4; the state is saved"):
        Training(tmp_path, "eisam", config).run(progress=interrupt)
    assert signal.getsignal(number) == before
    saved = load_newest_checkpoint(tmp_path)
    assert saved is not None
    assert saved["state"]["step"] == 4
    resumed = Training(tmp_path, "eisam", config)
    assert course(resumed.run()) == course(result)
    assert same(resumed.parameters(), parameters)


def test_a_signal_during_the_last_validation_is_not_swallowed(whole, tmp_path):
    result, parameters = whole["adamw"]
    training = Training(tmp_path)

    def validate() -> float:
        if len(training_steps) == result.n_steps:
            os.kill(os.getpid(), signal.SIGINT)
        return training.validate()

    training_steps: list[int] = []
    with pytest.raises(TrainingInterrupted, match=f"stopped at step {result.n_steps}"):
        training.run(progress=lambda state: training_steps.append(state.step), validate=validate)
    resumed = training.again()
    assert course(resumed.run()) == course(result)
    assert same(resumed.parameters(), parameters)


def test_training_interrupted_stops_a_program_like_ctrl_c():
    assert issubclass(TrainingInterrupted, KeyboardInterrupt)


def test_a_checkpoint_of_another_training_is_refused_by_both_names(tmp_path):
    with pytest.raises(CrashError):
        Training(tmp_path, identity="one").run(progress=crash_at(2))
    with pytest.raises(CheckpointError, match=r"must be of this training \(two\); got one of one"):
        Training(tmp_path, identity="two").run()


def test_a_checkpoint_of_another_method_is_refused(tmp_path):
    with pytest.raises(CrashError):
        Training(tmp_path, "sam").run(progress=crash_at(2))
    with pytest.raises(ValueError, match="must be of method ERM; got SAM"):
        Training(tmp_path, "adamw").run()


def test_fit_leaves_the_callers_random_numbers_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Training(tmp_path).run()
    assert torch.equal(torch.rand(1), expected)


def test_the_random_numbers_of_the_caller_do_not_matter(whole, tmp_path):
    torch.manual_seed(99)
    training = Training(tmp_path)
    training.run()
    assert same(training.parameters(), whole["adamw"][1])


def test_another_seed_is_another_training(whole, tmp_path):
    training = Training(tmp_path, seed=1)
    training.run()
    assert not same(training.parameters(), whole["adamw"][1])

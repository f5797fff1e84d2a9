"""A training that ``test_trainer_processes.py`` starts: killed and resumed, or one of two processes."""

import os
import sys
import warnings
from pathlib import Path

import torch

warnings.filterwarnings("ignore", category=FutureWarning)


def main(kind: str, folder: str, estimator: str, kill_at: int) -> None:
    """Train, or go on; save the parameters at the end."""
    torch.set_num_threads(1)
    {"trainer": by_trainer, "sft": by_sft_trainer, "accelerate": by_accelerate}[kind](
        folder, estimator, kill_at
    )


def by_trainer(folder: str, estimator: str, kill_at: int) -> None:
    """``EISAMTrainer``, also as one of several processes."""
    from tailwise.integrations import EISAMTrainer

    from .builders import arguments, examples, pad, settings, tiny_model, with_adapters

    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    trainer = EISAMTrainer(
        with_adapters(tiny_model()),
        arguments(
            folder,
            save_strategy="steps",
            save_steps=2,
            per_device_train_batch_size=4 // n_processes,
            gradient_accumulation_steps=2,
            ddp_backend="gloo" if n_processes > 1 else None,
        ),
        train_dataset=examples(),
        data_collator=pad,
        eisam=settings(estimator=estimator),
    )
    finish(trainer, folder, kill_at)


def by_sft_trainer(folder: str, estimator: str, kill_at: int) -> None:
    """``EISAMSFTTrainer``."""
    from .builders import settings
    from .test_sft_trainer import build

    trainer = build(Path(folder), eisam=settings(estimator=estimator), save_strategy="steps", save_steps=2)
    finish(trainer, folder, kill_at)


def by_accelerate(folder: str, estimator: str, kill_at: int) -> None:
    """A loop with Accelerate, which saves its state every second step."""
    from .builders import tiny_model
    from .test_accelerate import train

    def after_step(n_steps: int) -> None:
        if n_steps == kill_at:
            os.kill(os.getpid(), 9)

    model = tiny_model()
    train(model, estimator=estimator, states=Path(folder), after_step=after_step)
    torch.save({n: p.detach() for n, p in model.named_parameters()}, Path(folder) / "trained.pt")


def finish(trainer, folder: str, kill_at: int) -> None:
    """Train from the last checkpoint, if any."""
    from transformers import TrainerCallback
    from transformers.trainer_utils import get_last_checkpoint

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == kill_at:
                os.kill(os.getpid(), 9)

    trainer.add_callback(Kill())
    trainer.train(resume_from_checkpoint=get_last_checkpoint(folder) if Path(folder).is_dir() else None)
    if trainer.accelerator.is_main_process:
        trained = {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}
        torch.save(trained, Path(folder) / "trained.pt")
    trainer.accelerator.wait_for_everyone()
    # The wrapper goes before the group: the last to hold gloo's threads must not hold the interpreter's lock.
    trainer.model_wrapped = trainer.model
    trainer.accelerator.free_memory()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))

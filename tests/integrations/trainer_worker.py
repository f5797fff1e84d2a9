"""A training that ``test_trainer_processes.py`` starts: killed and resumed, or one of two processes."""

import os
import sys
import warnings
from pathlib import Path

import torch

warnings.filterwarnings("ignore", category=FutureWarning)


def main(folder: str, estimator: str, kill_at: int) -> None:
    """Train, or go on; save the parameters at the end."""
    from transformers import TrainerCallback

    from tailwise.integrations import EISAMTrainer

    from .builders import arguments, examples, pad, settings, tiny_model, with_adapters

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == kill_at:
                os.kill(os.getpid(), 9)

    torch.set_num_threads(1)
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
        callbacks=[Kill()] if kill_at else [],
    )
    from transformers.trainer_utils import get_last_checkpoint

    last = get_last_checkpoint(folder) if Path(folder).is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    if trainer.accelerator.is_main_process:
        trained = {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}
        torch.save(trained, Path(folder) / "trained.pt")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

import subprocess
import sys

PROGRAM = """
import sys

ABSENT = {
    "accelerate", "altair", "cyclopts", "gguf", "huggingface_hub", "implicit", "jinja2", "numpy", "peft",
    "platformdirs", "polars", "pydantic", "requests", "rich", "safetensors", "scipy", "transformers",
}

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *arguments):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, *arguments)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import torch
import tailwise.optim
from tailwise import EISAM, item_weights

item_weights(torch.tensor([90, 10]))
assert not ABSENT & set(sys.modules)
others = [m for m in sys.modules if m.startswith("tailwise.") and not m.startswith("tailwise.optim")]
assert not others, others
print("imported")
"""


def test_optim_can_be_imported_where_torch_is_installed_and_nothing_else():
    # torch itself warns where numpy is absent; that is its business.
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "imported\n"


def test_public_names_are_all_there():
    import tailwise.optim

    assert all(hasattr(tailwise.optim, name) for name in tailwise.optim.__all__)

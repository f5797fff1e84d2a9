"""From the records of a benchmark to its tables and its figure, without running anything again."""

import json
from pathlib import Path

from tailwise.reports._bench_figure import bench_figure
from tailwise.reports._bench_records import read_bench
from tailwise.reports._bench_rows import bench_rows
from tailwise.reports._bench_tables import latex_tables, markdown_tables
from tailwise.reports._bench_tidy import bench_results, csv_table
from tailwise.reports._result_file import write_atomically

__all__ = ["write_bench"]


def write_bench(folder: str | Path, *, n_resamples: int = 2000) -> Path:
    """Write tables, figure and results of a benchmark beside its records.

    Everything is computed from the records alone, so the same records give the same files. Cells
    that are missing are counted and said; comparisons use the seeds that both sides have.

    Args:
        folder: That ``tailwise bench --out`` wrote, complete or not. It receives ``tables.md``,
            ``tables.csv`` (every number on a line of its own), ``tables.tex`` (for booktabs and
            graphicx), ``figure.svg`` and ``results.json``.
        n_resamples: Of the users, where methods are held against curves.

    Returns:
        The path of ``tables.md``.

    Raises:
        DataError: the records break the schema or contradict each other, or no cell of the
            baseline is there yet.

    Example:
        >>> write_bench("benches/first")  # doctest: +SKIP
        PosixPath('benches/first/tables.md')
    """
    folder = Path(folder)
    bench = read_bench(folder)
    rows = bench_rows(bench, n_resamples=n_resamples)
    figure = bench_figure(bench, rows)
    results = json.dumps(bench_results(bench, rows), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(folder / "results.json", results + "\n")
    write_atomically(folder / "tables.csv", csv_table(bench, rows))
    write_atomically(folder / "tables.tex", latex_tables(bench, rows))
    if figure is not None:
        write_atomically(folder / "figure.svg", figure)
    else:
        (folder / "figure.svg").unlink(missing_ok=True)
    page = markdown_tables(bench, rows, figure=None if figure is None else "figure.svg")
    return write_atomically(folder / "tables.md", page)

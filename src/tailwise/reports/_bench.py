"""From the records of a benchmark to its tables and its figures, without running anything again."""

import json
from pathlib import Path

from tailwise.reports._bench_figure import bench_figure, bench_summary
from tailwise.reports._bench_pages import latex_tables, markdown_tables
from tailwise.reports._bench_records import read_bench
from tailwise.reports._bench_rows import bench_rows
from tailwise.reports._bench_tidy import bench_results, csv_table
from tailwise.reports._result_file import write_atomically

__all__ = ["write_bench"]


def write_bench(folder: str | Path, *, n_resamples: int = 2000) -> Path:
    """Write tables, figures and results of a benchmark beside its records.

    Everything is computed from the records alone, so the same records give the same files. Cells
    that are missing are counted and said; comparisons use the seeds that both sides have.

    Args:
        folder: That ``tailwise bench --out`` wrote, complete or not. It receives ``tables.md``,
            ``tables.csv`` (every number on a line of its own), ``tables.tex`` (for booktabs and
            graphicx), ``figure.svg``, ``summary.svg`` where settings are pooled, and ``results.json``.
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
    figures = {"figure.svg": bench_figure(bench, rows), "summary.svg": bench_summary(bench, rows)}
    results = json.dumps(bench_results(bench, rows), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(folder / "results.json", results + "\n")
    write_atomically(folder / "tables.csv", csv_table(bench, rows))
    write_atomically(folder / "tables.tex", latex_tables(bench, rows))
    for name, figure in figures.items():
        if figure is not None:
            write_atomically(folder / name, figure)
        else:
            (folder / name).unlink(missing_ok=True)
    page = markdown_tables(bench, rows, figure=None if figures["figure.svg"] is None else "figure.svg")
    return write_atomically(folder / "tables.md", page)

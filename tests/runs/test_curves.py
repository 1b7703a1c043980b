"""tascnet plot: the right numbers in the right panel, and whatever metrics there are become a picture."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from said import Said

from tascnet.runs.curves import POINTS_TO_SMOOTH, draw_curves, smooth
from tascnet.runs.record import Metrics

Tascnet = Callable[..., Said]

STEPS = {"loss/total": 2.0, "loss/cls": 1.5, "lr": 0.1}
VALIDATION = {"val/pq": 40.0, "val/pq_things": 30.0, "val/pq_stuff": 50.0, "val/ap": 10.0}


def metrics(factor: float = 1.0, steps: int = 3) -> Metrics:
    """Some logged steps, each after its loss has fallen by 1 %, then a validation."""
    lines = [
        {"step": step, **{name: factor * value * 0.99**step for name, value in STEPS.items()}}
        for step in range(1, steps + 1)
    ]
    return Metrics((*lines, {"step": steps, **{name: factor * value for name, value in VALIDATION.items()}}))


def write_run(folder: Path, content: Metrics) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content.lines))
    return folder


def drawn(axes: Axes) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


def legend_of(owner: Axes | Figure) -> list[str]:
    legend = owner.get_legend() if isinstance(owner, Axes) else owner.legends[0]
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


class TestPanels:
    def test_of_one_run(self):
        figure = draw_curves({"a": metrics()})
        losses, pq, lr = figure.axes
        assert figure.get_suptitle() == "a"
        assert [axes.get_title() for axes in figure.axes] == ["losses", "PQ, percent", "learning rate"]
        assert legend_of(losses) == ["total", "cls"]
        assert legend_of(pq) == ["all", "things", "stuff"]
        assert drawn(pq) == [([3], [40.0]), ([3], [30.0]), ([3], [50.0])]
        assert drawn(lr) == [([1, 2, 3], pytest.approx([0.099, 0.09801, 0.0970299]))]
        assert len({line.get_color() for line in losses.get_lines()}) == 2
        assert losses.get_yscale() == "log"
        assert pq.get_ylim()[0] == 0
        assert pq.get_ylim()[1] > 50

    def test_of_several_runs(self):
        figure = draw_curves({"a": metrics(), "b": metrics(0.5)})
        total, pq, _ = figure.axes
        assert legend_of(figure) == ["a", "b"]
        assert total.get_title() == "total loss"
        assert len(drawn(total)) == 2
        assert [values for _, values in drawn(pq)] == [[40.0], [30.0], [50.0], [20.0], [15.0], [25.0]]
        colors = [line.get_color() for line in pq.get_lines()]
        dashes = [line.get_linestyle() for line in pq.get_lines()]
        assert colors[:3] == [colors[0]] * 3  # of a run
        assert colors[3:] == [colors[3]] * 3
        assert colors[0] != colors[3]
        assert dashes[:3] == dashes[3:]
        assert len(set(dashes)) == 3

    def test_that_were_asked_for(self):
        figure = draw_curves({"a": metrics(), "b": metrics()}, ["val/ap", "loss/cls", "lr", "val/pq"])
        titles = ["mask AP, percent", "loss/cls", "learning rate", "PQ, percent"]
        assert [axes.get_title() for axes in figure.axes] == titles
        assert [len(drawn(axes)) for axes in figure.axes] == [2, 2, 2, 2]

    def test_have_one_scale_of_steps(self):
        """A run of one validation is found above its step, not in the middle of a panel of its own."""
        figure = draw_curves({"a": metrics(steps=200), "b": metrics(steps=100)})
        assert [axes.get_xlim() for axes in figure.axes] == [pytest.approx((0, 206))] * 3

    def test_that_lack_their_metrics_are_left_out(self):
        before_validation = Metrics(metrics().lines[:-1])
        assert [axes.get_title() for axes in draw_curves({"a": before_validation}).axes] == ["losses", "learning rate"]
        odd = Metrics(({"step": 1, "speed": 3.0},))
        assert [axes.get_title() for axes in draw_curves({"a": odd}).axes] == ["speed"]


class TestSmoothing:
    def test_against_the_sum_of_all_weights(self):
        values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
        for index, average in enumerate(smooth(values, reach=2.0)):
            weights = [math.exp(-(index - other) / 2.0) for other in range(index + 1)]
            assert average == pytest.approx(np.average(values[: index + 1], weights=weights))

    def test_passes_over_what_is_missing(self):
        assert smooth([math.nan, 2.0, math.nan, 2.0], reach=3.0) == pytest.approx(
            [math.nan, 2.0, 2.0, 2.0], nan_ok=True
        )

    def test_losses_of_many_points_are_drawn_raw_and_smooth(self):
        few, many = (draw_curves({"a": metrics(steps=steps)}, ["loss/total", "lr"]).axes for steps in (40, 41))
        assert POINTS_TO_SMOOTH == 40
        assert [len(drawn(axes)) for axes in few] == [1, 1]
        assert [len(drawn(axes)) for axes in many] == [2, 1]  # the learning rate is smooth as it is
        raw, smoothed = many[0].get_lines()
        assert raw.get_alpha() < 0.5
        assert raw.get_color() == smoothed.get_color()
        assert list(smoothed.get_ydata()) == pytest.approx(smooth(list(raw.get_ydata()), 0.03 * 41))

    def test_single_losses_near_zero_do_not_flatten_the_rest(self):
        lines = tuple({"step": step, "loss/total": 1e-9 if step == 7 else 1.0 + step} for step in range(1, 101))
        (axes,) = draw_curves({"a": Metrics(lines)}).axes
        # the lowest of a hundred values are 1e-9, 2 and 3: a fiftieth of them may be left out
        assert axes.get_ylim() == pytest.approx((3 / 1.2, 101 * 1.2))

    def test_a_loss_that_is_zero_at_a_step_leaves_the_scale_logarithmic(self):
        lines = tuple({"step": step, "loss/total": float(step % 10)} for step in range(1, 101))
        (axes,) = draw_curves({"a": Metrics(lines)}).axes
        assert axes.get_yscale() == "log"
        assert axes.get_ylim() == pytest.approx((1 / 1.2, 9 * 1.2))


class TestWhateverThereIs:
    @pytest.mark.parametrize(
        "values",
        [[0.0, 0.0], [math.nan, math.nan], [math.nan, 1.0], [-1.0, 2.0], [1e-30, 1e30], [5.0]],
        ids=str,
    )
    @pytest.mark.parametrize("name", ["loss/total", "val/pq"])
    def test_becomes_a_picture(self, tmp_path: Path, name: str, values: list[float]):
        lines = tuple({"step": step, name: value} for step, value in enumerate(values, start=1))
        draw_curves({"a": Metrics(lines), "b": Metrics(lines)}, [name]).savefig(tmp_path / "a.png")
        assert Image.open(tmp_path / "a.png").size[0] > 100

    def test_more_runs_than_colors(self):
        figure = draw_curves({str(number): metrics() for number in range(11)})
        assert len(legend_of(figure)) == 11


class TestTheCommand:
    @pytest.mark.parametrize(("name", "magic"), [("c.png", b"\x89PNG"), ("c.svg", b"<?xml"), ("new/c.pdf", b"%PDF")])
    def test_writes_a_picture(self, tascnet: Tascnet, tmp_path: Path, name: str, magic: bytes):
        run = write_run(tmp_path / "a", metrics())
        said = tascnet("plot", run, "--output", tmp_path / name)
        assert (said.code, said.out) == (0, f"curves of a are in {tmp_path / name}\n")
        assert (tmp_path / name).read_bytes().startswith(magic)

    def test_reads_a_real_run(self, tascnet: Tascnet, tiny_run: Path, tmp_path: Path):
        names = "loss/tasc,lr,images_per_second,data_wait,memory_gib,seconds_left,val/pq"
        said = tascnet("plot", tiny_run, "--metrics", names, "--output", tmp_path / "a.png")
        assert said.code == 0
        assert Image.open(tmp_path / "a.png").size[0] > 1000

    def test_runs_of_one_name_are_told_apart(self, tascnet: Tascnet, tmp_path: Path):
        runs = [write_run(tmp_path / folder / "a", metrics()) for folder in ("x", "y")]
        said = tascnet("plot", *runs, "--output", tmp_path / "a.png")
        assert said.out.startswith(f"curves of {runs[0]}, {runs[1]} are in")

    def test_a_metric_that_some_lack(self, tascnet: Tascnet, tmp_path: Path):
        first = write_run(tmp_path / "a", metrics())
        second = write_run(tmp_path / "b", Metrics(metrics().lines[:-1]))
        said = tascnet("plot", first, second, "--metrics", " val/pq, lr,", "--output", tmp_path / "a.png")
        assert (said.code, said.out.splitlines()[0]) == (0, "b: no val/pq")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ("a", "--metrics", "val/qp"),
                "--metrics names val/qp, which no run has; they have loss/total, loss/cls, lr,",
            ),
            (("a", "--output", "c.txt"), "--output is c.txt; curves are drawn as .png, .svg, .pdf."),
            (("a", "--output", "c"), "--output is c; curves"),
            (("nowhere",), "nowhere is no folder."),
            (("a", "photos"), "photos is not a run folder: there is no run.json in it."),
            (("a", "empty"), "empty has no metrics yet: metrics.jsonl is empty."),
            (("a", "./a"), "a is given twice"),
            (("a", "--output", "a/run.json/c.png"), "cannot make the folder a/run.json: "),
        ],
    )
    def test_refuses_in_a_sentence(
        self,
        tascnet: Tascnet,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[str, ...],
        message: str,
    ):
        monkeypatch.chdir(tmp_path)
        write_run(Path("a"), metrics())
        write_run(Path("empty"), Metrics(()))
        Path("photos").mkdir()
        before = sorted(tmp_path.rglob("*"))
        said = tascnet("plot", *arguments)
        assert said.code == 2
        assert said.err.startswith(f"tascnet: error: {message}")
        assert len(said.err.splitlines()) == 1
        assert sorted(tmp_path.rglob("*")) == before

    def test_without_matplotlib(self, tascnet: Tascnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        said = tascnet("plot", write_run(tmp_path / "a", metrics()), "--output", tmp_path / "a.png")
        assert said.code == 2
        assert "pip install 'tascnet[plot]'" in said.err
        assert not (tmp_path / "a.png").exists()

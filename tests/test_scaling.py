"""How docs/scaling.md is made: what is counted of a program, the model, and what lacks."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "scaling"
NAMES = ("grid", "hlo", "point", "rates", "scaling", "scaling_model", "scaling_page")


@pytest.fixture(scope="module")
def study():
    """The modules of the study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        sys.modules.pop(name, None)


def test_a_loops_body_counts_as_often_as_it_turns(study):
    def program(x, w):
        def turn(x, _):
            return jax.lax.optimization_barrier(jnp.tanh(x @ w)), None

        x, _ = jax.lax.scan(turn, x, length=7)
        return jax.lax.while_loop(lambda x: x[0, 0] > 9, lambda x: x * 0.5, x)

    text = jax.jit(program).lower(jnp.ones((32, 16)), jnp.ones((16, 16))).compile().as_text()
    found = study.hlo.kernels(text)
    products = {kernel: times for kernel, times in found.items() if kernel.flops}
    (product,) = products
    assert products[product] == 7
    assert product.flops == 2 * 32 * 16 * 16
    assert (product.narrow, product.rows) == (16, 32)
    assert product.moved >= 4 * (2 * 32 * 16 + 16 * 16)
    tanh = sum(kernel.transcendentals * times for kernel, times in found.items())
    assert tanh == 7 * 32 * 16
    assert found[study.hlo.Kernel("turn")] == 1


def test_of_an_array_that_is_indexed_the_part_counts(study):
    def program(rows, i, new):
        return rows.at[i].set(new), rows[i]

    shapes = jnp.ones((100_000, 4)), jnp.arange(8), jnp.ones((8, 4))
    text = jax.jit(program, donate_argnums=0).lower(*shapes).compile().as_text()
    moved = sum(k.moved * times for k, times in study.hlo.kernels(text).items() if k.moved < 1e6)
    assert moved < 20 * 8 * 4 * 4


def test_ppo_has_the_products_that_its_networks_need(study):
    results = study.scaling_page.load()
    for name, width in (("envs-64", 64), ("width-256", 256)):
        per_step = study.scaling_page.totals(results, name)["flops"] / 2048
        towers = [2 * width * (4 + width + outputs) for outputs in (2, 1)]
        # Forward in the rollout; in each of four epochs forward and back, not to the observations.
        needed = sum(f + 4 * (3 * f - 2 * width * 4) for f in towers)
        # Beside it the value of what follows a rollout's last step.
        assert needed < per_step < 1.06 * needed


def test_the_model_adds_what_each_kernel_takes(study):
    machine = study.scaling_model.Machine(
        latency=1.0,
        turn=5.0,
        reduce=lambda size: size,
        product=lambda narrow, rows: narrow * rows,
        operation=lambda elements: 10.0,
        transcendental=lambda elements: 2.0,
        moved=lambda elements: 4.0,
    )
    kernels = [
        ["product", 60, 2, 3, 20, 4, 8, 3],  # 3 (1 + max(60 / 6 + 20 / 10 + 4 / 2, 8 / 4)) = 45
        ["other", 0, 0, 0, 10, 0, 40, 2],  # 2 (1 + max(1, 10)) = 22
        ["turn", 0, 0, 0, 0, 0, 0, 4],  # 20
        ["reduce", 0, 0, 0, 0, 0, 14, 1],  # 7
    ]
    assert study.scaling_model.seconds(kernels, machine) == 45 + 22 + 20 + 7


def test_rates_are_interpolated_by_logarithms(study):
    line = [[1, 1.0, 10.0, 99.0], [100, 1.0, 1000.0, 9999.0]]
    rates = {
        "products": [[n, m, 1, n * m, 9] for n in (1, 16) for m in (1, 64)],
        "operations": line,
        "transcendentals": line,
        "bytes": line,
        "kernels": [1.0, 4.0, 8.0],
    }
    machine = study.scaling_model.measured([rates])
    assert machine.latency == 0.25
    assert machine.operation(10) == pytest.approx(100)
    assert machine.operation(1e6) == pytest.approx(1000)  # as the largest
    assert machine.product(4, 8) == pytest.approx(32)


def test_every_point_is_a_config_and_a_page_has_all_of_them(study):
    results = study.scaling_page.load()
    assert list(results["points"]) == list(study.grid.POINTS)
    lacking = study.scaling_page.missing(results)
    assert all(f"`{name}`" in study.scaling_page.facts(results) for name in lacking)
    for name, point in study.grid.POINTS.items():
        kept = results["points"][name]
        assert kept["point"] == {k: list(v) if k == "hidden_sizes" else v for k, v in point.items()}
        if point["axis"] != "rates":
            config = study.point.config_of(kept["point"])
            assert kept["prepared"]["steps"] == config.steps_per_iteration * point["members"]
    results = {**results, "points": {**results["points"]}}
    results["points"]["envs-64"] = {**results["points"]["envs-64"], "rounds": []}
    assert study.scaling.lacking(results) == sorted(
        [*lacking, "envs-64"], key=list(study.grid.POINTS).index
    )


def test_speeds_leave_out_what_others_disturbed(study):
    rounds = [
        {"run_s": [1.0, 2.0, 4.0], "others": [0.0, 0.5, 0.0]},
        {"run_s": [8.0], "others": [0.1]},
    ]
    point = {"point": {"iterations": 2}, "prepared": {"steps": 8}, "rounds": rounds}
    assert study.scaling_page.speeds({"points": {"x": point}}, "x") == [16, 4, 2]
    rounds.pop()
    assert study.scaling_page.speeds({"points": {"x": point}}, "x") == [16, 8, 4]  # too few alone

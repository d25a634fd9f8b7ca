"""Places of ranks, stages and shards in a mesh, and what is rejected."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.shapes import Shapes
from hpc_deepfake.strategies.mesh.cut import Line, balanced, cut, of_table, operations
from hpc_deepfake.strategies.mesh.shape import Place, Shape, bounds, parse, sizes
from hpc_deepfake.strategies.mesh.shards import BLOCKS, LAYOUTS, output_shape, parameters

SHAPES = [Shape(d, t, p) for d in (1, 2, 3) for t in (1, 2, 3) for p in (1, 2, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_rank_has_its_own_place(shape):
    places = [shape.place(rank) for rank in range(shape.ranks)]
    assert len(set(places)) == shape.ranks
    assert [shape.rank(place) for place in places] == list(range(shape.ranks))
    assert [place.data for place in places] == sorted(place.data for place in places)
    for group in shape.groups():
        assert len(group) > 1
        axes = list(zip(*(shape.place(rank) for rank in group), strict=True))
        assert sum(len(set(axis)) > 1 for axis in axes) == 1  # the ranks differ on one axis only
        assert len(set(axes[1])) == 1


def test_neighbours_of_the_full_mesh():
    shape = parse("data=2,tensor=2,pipeline=2", 8)
    assert shape.place(5) == Place(data=1, stage=0, tensor=1)
    assert shape.tensor_group(shape.place(5)) == (4, 5)
    assert shape.data_group(shape.place(5)) == (1, 5)
    assert shape.groups() == [(0, 1), (0, 4), (1, 5), (2, 3), (2, 6), (3, 7), (4, 5), (6, 7)]


@pytest.mark.parametrize("text", ["data=2,pipeline=3", "pipeline=3, data=2", "pipeline=3,data=2,"
                                  "tensor=1"])
def test_axes_in_any_order_and_left_out(text):
    assert parse(text, 6) == Shape(2, 1, 3)
    assert parse(str(Shape(2, 1, 3)), 6) == Shape(2, 1, 3)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("text", [None, "", "data", "data=0", "data=x", "data=-1", "data=1.5",
                                  "data=", "rows=2", "data=2,data=2", "data=2;tensor=2",
                                  "data=5,tensor=7", "data=²"])
def test_a_wrong_mesh_is_rejected_with_one_that_works(text, ranks):
    with pytest.raises(InputError) as error:
        parse(text, ranks)
    assert error.value.everywhere
    example = str(error.value).rpartition("--mesh ")[2]
    assert parse(example, ranks).ranks == ranks


@pytest.mark.parametrize("whole", [32, 64, 128])
@pytest.mark.parametrize("parts", [1, 2, 3, 5, 7, 32])
def test_shards_are_nearly_equal_and_cover_all(whole, parts):
    edges = [bounds(index, parts, whole) for index in range(parts)]
    assert edges[0][0] == 0 and edges[-1][1] == whole
    assert all(stop == start for (_, stop), (start, _) in pairwise(edges))
    assert max(sizes(parts, whole)) - min(sizes(parts, whole)) <= 1
    assert [len(part) for part in np.array_split(np.arange(whole), parts)] == sizes(parts, whole)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_shards_together_are_the_whole(layout, parts):
    for parameter in parameters(layout):
        whole = np.arange(parameter.size, dtype=np.float32).reshape(parameter.shape)
        rebuilt = np.full_like(whole, -1)
        for index in range(parts):
            part = parameter.take(whole, index, parts)
            assert part.shape == parameter.part_shape(index, parts)
            assert part.base is None or not np.shares_memory(part, whole)
            parameter.put(rebuilt, part, index, parts)
        assert np.array_equal(rebuilt, whole), parameter.name


def test_parameters_are_those_of_the_model():
    """Shapes, order, and which are trained."""
    from hpc_deepfake.network import table
    from hpc_deepfake.network.fused import Weights

    weights = Weights(table.build())
    for layout in LAYOUTS:
        made = parameters(layout)
        assert [parameter.shape for parameter in made] == [tuple(v.shape) for v in weights.all]
        assert [parameter.shape for parameter in made if parameter.trainable] == \
            [tuple(v.shape) for v in weights.trainable]
        assert {parameter.block for parameter in made} == set(BLOCKS)


def test_rows_of_a_shard_are_those_of_its_channels():
    """Row i of dense1's kernel belongs to channel i mod 64."""
    kernel, = (parameter for parameter in parameters("row") if parameter.name == "dense1/kernel")
    channel = np.repeat(np.arange(57600) % 64, 128).reshape(57600, 128)
    for index, (start, stop) in enumerate(bounds(i, 3, 64) for i in range(3)):
        assert set(kernel.take(channel, index, 3).ravel()) == set(range(start, stop))
        assert output_shape("bn2", "row", index, 3)[-1] == stop - start


@pytest.mark.parametrize("stages", range(1, len(BLOCKS) + 1))
def test_balanced_stages_are_nearly_equal(stages):
    made = cut(stages)
    assert sum(made, ()) == BLOCKS and all(made) and len(made) == stages
    costs = operations()
    whole, worst = sum(costs.values()), max(sum(costs[block] for block in stage) for stage in made)
    assert max(max(costs.values()), whole / stages) <= worst < whole / stages + max(costs.values())


def test_cuts_follow_the_costs():
    line = of_table()._replace(costs=(1.0,) * 6)
    assert balanced(3, line) == [("conv1", "bn1"), ("conv2", "bn2"), ("dense1", "dense2")]
    assert balanced(2, line._replace(costs=(*[1.0] * 5, 9.0)))[1] == ("dense2",)


@pytest.mark.parametrize("seed", range(30))
def test_no_cut_is_better(seed):
    """Beside all others: none with a cheaper most expensive stage, beyond 2%, and of those that
    cost as much none that sends less."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 9))
    line = Line(tuple(map(str, range(count))), tuple(random.integers(1, 9, count) * 1.0),
                tuple(random.integers(1, 99, count).tolist()), message=seed % 3 / 20)

    def worth(cuts):
        edges = (0, *cuts, count)
        sent = [0, *(line.message * line.sent[cut - 1] for cut in cuts), 0]
        return max(sum(line.costs[a:b]) + sum(sent[stage:stage + 2])
                   for stage, (a, b) in enumerate(pairwise(edges))), \
            sum(line.sent[cut - 1] for cut in cuts)

    for stages in range(1, count + 1):
        lengths = np.cumsum([len(stage) for stage in balanced(stages, line)])
        every = [worth(cuts) for cuts in combinations(range(1, count), stages - 1)]
        bound = 1.02 * min(cost for cost, _ in every) + 1e-9
        cost, sent = worth(lengths[:-1].tolist())
        assert cost <= bound and sent == min(sent for cost, sent in every if cost <= bound)


def test_other_sizes_of_the_table():
    """The blocks cost and send what those of the size do; the shards fit the model."""
    from hpc_deepfake.network import table
    from hpc_deepfake.network.fused import Weights

    small, usual = of_table(Shapes(32)), of_table()
    assert small.sent == (30 * 30 * 32, 15 * 15 * 32, 13 * 13 * 64, 6 * 6 * 64, 128, 2)
    assert all(one < other for one, other in zip(small.costs[:5], usual.costs[:5], strict=True))
    assert cut(3, "bn1,dense1", small) == cut(3, "bn1,dense1")
    assert [parameter.shape for parameter in parameters(shapes=Shapes(32))] == \
        [tuple(v.shape) for v in Weights(table.build(size=32)).all]
    assert output_shape("bn2", "row", 1, 3, Shapes(32)) == (6, 6, 21)


def test_frozen_blocks_come_last():
    """As in the model of which layers are frozen."""
    from hpc_deepfake.network import table
    from hpc_deepfake.network.fused import Weights

    model = table.build(size=32)
    for name in ("conv1", "bn1"):
        model.get_layer(name).trainable = False
    made, weights = parameters(shapes=Shapes(32), frozen=("conv1", "bn1")), Weights(model)
    assert [one.shape for one in made] == [tuple(v.shape) for v in weights.all]
    assert sum(one.trainable for one in made) == len(weights.trainable) == 8
    assert [one.block for one in made][-6:] == ["conv1"] * 2 + ["bn1"] * 4


def test_stages_as_the_user_says():
    assert cut(3, "bn1, dense1") == [("conv1",), ("bn1", "conv2", "bn2"), ("dense1", "dense2")]


@pytest.mark.parametrize(("stages", "begins", "message"), [
    (7, None, "more than the 6 blocks"), (2, "conv1", "name the first block"),
    (2, "pool1", "name the first block"), (2, "conv2,dense1", "makes 3 stages"),
    (1, "conv2", "leave --stages out"), (3, "dense1,conv2", "order"),
    (3, "conv2,conv2", "order"), (3, "conv2", "name 2 blocks")])
def test_wrong_stages_are_rejected(stages, begins, message):
    with pytest.raises(InputError, match=message) as error:
        cut(stages, begins)
    assert error.value.everywhere
    example = str(error.value).rpartition("--stages ")[2]
    if stages in (2, 3):
        assert len(cut(stages, example)) == stages

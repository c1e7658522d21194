import torch

from dfw.runs.random_streams import PURPOSES, Streams, derive_seed

CPU = torch.device("cpu")


def test_purposes_and_seeds_are_unrelated():
    seeds = {derive_seed(seed, purpose) for seed in range(50) for purpose in PURPOSES}
    assert len(seeds) == 50 * len(PURPOSES)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_draw_from_one_stream_moves_no_other():
    one, two = Streams(7, CPU), Streams(7, CPU)
    torch.rand(100, generator=one["cameras"])
    assert torch.equal(torch.rand(5, generator=one["noise"]), torch.rand(5, generator=two["noise"]))


def test_state_continues_where_it_was_taken():
    streams = Streams(0, CPU)
    torch.rand(3, generator=streams["noise"])
    state = streams.state()
    ahead = torch.rand(4, generator=streams["noise"])
    fresh = Streams(99, CPU)
    fresh.load_state(state)
    assert torch.equal(torch.rand(4, generator=fresh["noise"]), ahead)

import itertools

import numpy as np
import pytest
import torch

from hpt.data.synthetic import SyntheticSource
from hpt.errors import ConfigError


@pytest.fixture(scope="module")
def source():
    return SyntheticSource(vocab_size=200, exponent=1.1, classes=5, order=2)


def unigram(source):
    p_V = np.zeros(source.vocab_size)
    np.add.at(p_V, source.token_SxV, source.stationary_S[:, None] * source.zipf_V)
    return p_V


def best_loss_nats(source, inputs_BxT, targets_BxT):
    """−ln p(target | all tokens before it) of the true source, (B, T): no model does better.

    An exact forward filter: it starts from the stationary law of the states and sees tokens only.
    """
    rank_SxV = np.argsort(source.token_SxV, axis=1)
    tokens_BxT1 = np.concatenate([inputs_BxT.numpy()[:, :1], targets_BxT.numpy()], axis=1)
    belief_BxS = np.tile(source.stationary_S, (len(tokens_BxT1), 1))
    states = np.arange(len(source.stationary_S))
    loss_BxT1 = np.empty(tokens_BxT1.shape)
    for t, token_B in enumerate(tokens_BxT1.T):
        rank_BxS = rank_SxV[:, token_B].T
        joint_BxS = belief_BxS * source.zipf_V[rank_BxS]
        total_B = joint_BxS.sum(axis=1)
        loss_BxT1[:, t] = -np.log(total_B)
        belief_BxS = np.zeros_like(joint_BxS)
        rows = np.arange(len(token_B))[:, None]
        after_BxS = source.next_SxV[states, rank_BxS]
        np.add.at(belief_BxS, (rows, after_BxS), joint_BxS / total_B[:, None])
    return loss_BxT1[:, 1:]


def test_exact_filter_attains_the_entropy_rate_and_a_unigram_model_does_not(source):
    inputs, targets = source.validation(400, 128)
    known_BxT = best_loss_nats(source, inputs, targets)[
        :, 1:
    ]  # order 2: from the second target on the state is known
    error = known_BxT.std() / np.sqrt(known_BxT.size)
    assert error < 0.01
    assert abs(known_BxT.mean() - source.entropy_rate) < 4 * error
    unigram_BxT = -np.log(unigram(source))[targets.numpy()]
    assert unigram_BxT.mean() > source.entropy_rate + 0.25  # forty of those errors
    assert source.entropy_rate < np.log(source.vocab_size) - 1


def test_filter_pays_for_the_unknown_state_at_the_start_only(source):
    loss_BxT = best_loss_nats(source, *source.batch(0, 0, 4000, 6))
    mean_T, error_T = loss_BxT.mean(axis=0), loss_BxT.std(axis=0) / np.sqrt(len(loss_BxT))
    assert mean_T[0] > source.entropy_rate + 5 * error_T[0]
    assert (abs(mean_T[1:] - source.entropy_rate) < 4 * error_T[1:]).all()


@pytest.mark.parametrize(("classes", "order"), [(2, 1), (3, 2), (2, 3)])
def test_filter_is_a_probability_law_and_equals_the_sum_over_hidden_states(classes, order):
    source = SyntheticSource(vocab_size=3, classes=classes, order=order)
    words = np.array(list(itertools.product(range(3), repeat=5)))
    p_N = np.zeros(len(words))
    for n, word in enumerate(words):
        for state, p in enumerate(source.stationary_S):
            for token in word:
                rank = int(np.flatnonzero(source.token_SxV[state] == token)[0])
                p, state = p * source.zipf_V[rank], source.next_SxV[state, rank]
            p_N[n] += p
    assert p_N.sum() == pytest.approx(1, abs=1e-12)
    tokens = torch.from_numpy(words)
    loss_NxT = best_loss_nats(source, tokens[:, :-1], tokens[:, 1:])
    np.testing.assert_allclose(np.exp(-loss_NxT.sum(axis=1)) * unigram(source)[words[:, 0]], p_N, rtol=1e-10)


def test_entropy_rate_is_the_states_mean_of_the_entropy_of_their_laws(source):
    p_SxV = np.zeros(source.token_SxV.shape)
    np.put_along_axis(p_SxV, source.token_SxV, source.zipf_V[None], axis=1)
    np.testing.assert_allclose(p_SxV.sum(axis=1), 1)
    entropy_S = -(p_SxV * np.log(p_SxV)).sum(axis=1)
    assert source.stationary_S @ entropy_S == pytest.approx(source.entropy_rate, rel=1e-12)


def test_states_are_stationary_and_none_is_out_of_reach(source):
    after_S = np.zeros_like(source.stationary_S)
    np.add.at(after_S, source.next_SxV, source.stationary_S[:, None] * source.zipf_V)
    np.testing.assert_allclose(after_S, source.stationary_S, rtol=1e-10)
    assert source.stationary_S.sum() == pytest.approx(1) and source.stationary_S.min() > 0


def test_tokens_follow_the_stationary_law_at_every_position(source):
    tokens = source.sample(5, 0, 20_000, 6)
    p_V = unigram(source)
    for column in (tokens[:, 0], tokens[:, -1]):
        z_V = (np.bincount(column, minlength=200) - 20_000 * p_V) / np.sqrt(20_000 * p_V * (1 - p_V))
        assert abs(z_V).max() < 5


@pytest.mark.parametrize("vocab_size", [2, 3, 1024, 70_000])
def test_any_vocabulary_size(vocab_size):
    source = SyntheticSource(vocab_size=vocab_size, order=1)
    inputs, targets = source.batch(0, 0, 4, 16)
    assert inputs.dtype == targets.dtype == torch.int64 and inputs.shape == (4, 16)
    assert targets.min() >= 0 and targets.max() < vocab_size
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert 0 < source.entropy_rate < np.log(vocab_size)


def test_batches_are_a_function_of_seed_and_step_and_never_the_validation_text(source):
    first = source.batch(1, 9, 8, 32)[0]
    others = [source.batch(1, 8, 8, 32)[0], source.batch(2, 9, 8, 32)[0], source.validation(8, 32)[0]]
    assert torch.equal(first, source.batch(1, 9, 8, 32)[0])
    assert not any(torch.equal(first, other) for other in others)
    assert not torch.equal(source.batch(0, 0, 8, 32)[0], source.validation(8, 32)[0])
    assert torch.equal(source.validation(8, 32)[1], source.validation(8, 32)[1])


def test_fingerprint_tells_languages_apart():
    makes = [{}, {"language": 1}, {"exponent": 1.01}, {"classes": 4}, {"order": 1}]
    prints = [SyntheticSource(vocab_size=50, **make).fingerprint for make in makes]
    assert len(set(prints)) == len(prints)
    assert SyntheticSource(vocab_size=50).fingerprint == prints[0]


def test_decode_and_facts(source):
    assert source.decode(torch.tensor([3, 14])) == "w3 w14"
    assert source.facts["states"] == 25 and source.train_tokens is None


def test_too_many_states_are_refused():
    with pytest.raises(ConfigError, match="order=1"):
        SyntheticSource(vocab_size=50_000, classes=64, order=4)

"""The loss, the bits and the draws of a categorical distribution are of the same probabilities."""

import math

import torch

from wavegen.codecs.windows import IGNORED
from wavegen.distributions.categorical import Categorical
from wavegen.distributions.sampling import Sampling

CODES = 12


def test_loss_and_bits_agree_and_leave_out_what_is_ignored() -> None:
    torch.manual_seed(0)
    logits, codes = torch.randn(3, 20, CODES), torch.randint(0, CODES, (3, 20))
    expected = -logits.double().log_softmax(-1).gather(-1, codes[..., None])[..., 0] / math.log(2)
    codes[1, 5:] = IGNORED
    expected[1, 5:] = 0
    bits = Categorical(CODES).bits(logits, codes)
    assert bits.dtype == torch.float64
    torch.testing.assert_close(bits, expected, rtol=0, atol=1e-5)
    loss = Categorical(CODES).loss(logits.flatten(0, 1), codes.flatten())
    torch.testing.assert_close(loss.double(), bits.sum() / 45 * math.log(2), rtol=1e-5, atol=0)


def test_codes_are_drawn_as_often_as_the_bits_say() -> None:
    torch.manual_seed(0)
    distribution, logits, count = Categorical(CODES), torch.randn(1, CODES), 20_000
    noise = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = distribution.draw(logits.expand(count, -1), noise, Sampling())
    shares = torch.bincount(drawn, minlength=CODES).double() / count
    bits = distribution.bits(logits.expand(CODES, -1, -1), torch.arange(CODES)[:, None])[:, 0]
    torch.testing.assert_close(shares, 2**-bits, rtol=0, atol=2 / count)

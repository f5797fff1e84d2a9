"""Lists from scores."""

import torch

from tailwise.recommenders import recommend


def test_lists_are_those_of_a_stable_sort_of_all_scores():
    """Ties in the list and across its end, items that must not be listed, lists longer than what is left."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (40, 9), generator=generator).float()
    scores[torch.rand(40, 9, generator=generator) < 0.2] = -torch.inf

    class Given:
        n_items = 9

        def scores(self, histories):
            return scores

    for k in (1, 3, 9):
        best = scores.sort(dim=1, descending=True, stable=True)
        expected = [
            items[values > -torch.inf].tolist()
            for values, items in zip(best.values[:, :k], best.indices[:, :k], strict=True)
        ]
        assert recommend(Given(), [[]] * 40, k=k) == expected

from dataclasses import replace

from tailwise.diagnosis._sharpness_change import GroupChange
from tailwise.diagnosis._sharpness_words import sharpness_notes, sharpness_sentence
from tailwise.diagnosis._uncertain import Uncertain

TAIL = GroupChange(
    name="tail",
    before=0.021,
    after=0.012,
    difference=Uncertain(-0.009, -0.011, -0.007),
    ratio=Uncertain(0.571, 0.48, 0.67),
    relative_difference=Uncertain(-0.002, -0.003, -0.001),
    curvature_before=0.01,
    curvature_after=0.004,
    curvature_difference=Uncertain(-0.006, -0.008, -0.004),
    in_sample=(0.025, 0.015),
    random=(0.0001, 0.0001),
)
HEAD = replace(
    TAIL,
    name="head",
    before=0.01,
    after=0.0098,
    difference=Uncertain(-0.0002, -0.001, 0.0006),
    ratio=Uncertain(0.98, 0.9, 1.06),
    in_sample=(0.012, 0.012),
)


def test_a_flattened_tail_and_an_unchanged_head_are_said_in_one_sentence():
    assert sharpness_sentence((HEAD, TAIL), "EISAM", n_seeds=5) == (
        "EISAM flattened the tail: sharpness 0.021 → 0.012 (−43 %, −52 to −33); elsewhere no change can be "
        "told from noise: head 0.01 → 0.0098 (−2 %, −10 to 6)."
    )


def test_a_sharpened_group_is_named_as_such():
    sharper = replace(
        HEAD, after=0.02, difference=Uncertain(0.01, 0.008, 0.012), ratio=Uncertain(2.0, 1.8, 2.2)
    )
    text = sharpness_sentence((sharper, TAIL), "EISAM", n_seeds=5)
    assert text.startswith(
        "EISAM sharpened the head: sharpness 0.01 → 0.02 (100 %, 80 to 120); flattened the"
    )


def test_no_change_is_never_called_one():
    text = sharpness_sentence(
        (HEAD, replace(TAIL, difference=Uncertain(-0.009, -0.02, 0.002))), "EISAM", n_seeds=5
    )
    assert text.startswith("EISAM changed the sharpness of no group beyond noise: head")
    assert "flattened" not in text


def test_without_a_ratio_the_difference_is_given():
    text = sharpness_sentence((replace(TAIL, ratio=Uncertain(None)),), "EISAM", n_seeds=5)
    assert "0.021 → 0.012 (−0.0090, −0.0110 to −0.0070)" in text
    bare = replace(TAIL, ratio=Uncertain(None), difference=Uncertain(-0.009))
    assert "(no interval)" in sharpness_sentence((bare,), "EISAM", n_seeds=5)


def test_a_single_training_is_named_in_the_sentence_itself():
    text = sharpness_sentence((HEAD, TAIL), "EISAM", n_seeds=1)
    assert text.startswith("In one training of each, EISAM flattened the tail")


def test_several_seeds_and_clean_numbers_need_no_notes():
    assert sharpness_notes((HEAD, TAIL), n_seeds=5) == ()


def test_a_random_step_that_raises_the_loss_nearly_as_much_is_told():
    (note,) = sharpness_notes((replace(TAIL, random=(0.012, 0.008)),), n_seeds=5)
    assert "In the tail a random step of the same length raises the loss by 0.012 before and 0.008" in note
    assert sharpness_notes((replace(TAIL, random=(0.01, 0.005)),), n_seeds=5) == ()


def test_an_in_sample_rise_of_twice_the_held_out_one_is_told():
    (note,) = sharpness_notes((replace(TAIL, in_sample=(0.05, 0.015)),), n_seeds=5)
    assert "0.05 before and 0.015 after, is mostly noise" in note


def test_a_change_of_the_slope_alone_is_told_and_only_for_groups_that_changed():
    flat = {"curvature_difference": Uncertain(-0.001, -0.003, 0.001)}
    (note,) = sharpness_notes((replace(TAIL, **flat), replace(HEAD, **flat)), n_seeds=5)
    assert note == (
        "In the tail it is the slope that changed: the curvature, 0.01 → 0.004, "
        "cannot be told from unchanged."
    )
    opposite = replace(TAIL, curvature_difference=Uncertain(0.002, 0.001, 0.003))
    assert "went up." in sharpness_notes((opposite,), n_seeds=5)[0]


def test_a_change_that_vanishes_as_a_share_of_the_loss_is_told():
    change = replace(TAIL, relative_difference=Uncertain(-0.001, -0.003, 0.001))
    (note,) = sharpness_notes((change,), n_seeds=5)
    assert "as a share of it, the rise cannot be told from unchanged" in note

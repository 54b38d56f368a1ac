"""What a family makes of a term: who goes by points lost over the rim, and who pays for changing sizes."""

from __future__ import annotations

import pytest

from medmi.registration.families import MOST_LOST, SCALES, term_for
from medmi.registration.terms import TERMS

UNDER = MOST_LOST - 0.01


@pytest.mark.parametrize("family", SCALES)
@pytest.mark.parametrize("name", TERMS)
def test_families_that_change_sizes_leave_the_rim_where_much_is_lost_there(name, family):
    changes = len(SCALES[family]) > 1
    assert term_for(TERMS[name], family, UNDER).rim == TERMS[name].rim
    assert term_for(TERMS[name], family, MOST_LOST).rim == (TERMS[name].rim and not changes)


def test_who_pays():
    assert [family for family in SCALES if term_for(TERMS["mi"], family, 0.0).stiffness] == ["similarity", "affine"]
    assert [name for name, term in TERMS.items() if term_for(term, "affine", 0.0).stiffness] == ["mi", "nmi"]

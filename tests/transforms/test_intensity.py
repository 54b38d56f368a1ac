"""StandardizedUptakeValued and SimulateUltrasoundd give what their functions give and keep geometry and history."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flipd

from medmi.io import read_image
from medmi.simulation.probe import Probe
from medmi.simulation.ultrasound import simulate_ultrasound
from medmi.transforms import LoadImagePaird, SimulateUltrasoundd, StandardizedUptakeValued, intensity
from medmi.validation import InputError
from tests.io.making import save
from tests.io.test_suv import DOSE, ELAPSED, HALF_LIFE, WEIGHT, pet
from tests.transforms.making import pair


def test_suv_after_a_flip_keeps_history(tmp_path):
    folder = save(tmp_path / "PET", [pet()])
    path = next(folder.iterdir())
    item = Flipd("pet", spatial_axis=0)(LoadImagePaird("pet")({"pet": str(path)}))
    done = StandardizedUptakeValued("pet")(item)["pet"]
    factor = 1000 * WEIGHT / (DOSE * 2 ** (-ELAPSED / HALF_LIFE))
    torch.testing.assert_close(done.as_tensor(), read_image(path).as_tensor().flip(1) * factor)
    assert torch.equal(done.affine, item["pet"].affine)
    assert done.applied_operations[-1]["class"] == "Flip"


def test_suv_of_a_chosen_series(tmp_path):
    folder = save(tmp_path / "both", [pet()])
    save(folder, [pet(Modality="CT")], "other")
    image = read_image(folder, series="PT")
    with pytest.raises(InputError, match="choose one"):
        StandardizedUptakeValued("pet")({"pet": image})
    assert float(StandardizedUptakeValued("pet", series="PT")({"pet": image})["pet"].abs().max()) > 0


def test_suv_refuses():
    image = pair(3)[0]
    with pytest.raises(InputError, match="'pet' is Tensor; a MetaTensor"):
        StandardizedUptakeValued("pet")({"pet": image.as_tensor()})
    nameless = MetaTensor(image.as_tensor(), affine=image.affine)
    with pytest.raises(InputError, match="'pet' has no file name"):
        StandardizedUptakeValued("pet")({"pet": nameless})
    with pytest.raises(KeyError, match="pet"):
        StandardizedUptakeValued("pet")({})
    assert StandardizedUptakeValued("pet", allow_missing_keys=True)({}) == {}


def test_ultrasound_is_the_function_s():
    image = pair(2)[0]
    options = {"seed": 4, "probe": Probe(opening_deg=60.0), "tissue": "mr", "dynamic_range_db": None}
    item = Flipd("mr", spatial_axis=0)({"mr": image})
    done = SimulateUltrasoundd("mr", **options)(item)["mr"]
    assert torch.equal(done.as_tensor(), simulate_ultrasound(item["mr"], **options).as_tensor())
    assert torch.equal(done.affine, item["mr"].affine)
    assert done.applied_operations[-1]["class"] == "Flip"
    assert not torch.equal(done.as_tensor(), SimulateUltrasoundd("mr", seed=5)(item)["mr"].as_tensor())


def test_ultrasound_refuses():
    with pytest.raises(InputError, match="'mr' is Tensor"):
        SimulateUltrasoundd("mr")({"mr": torch.zeros(1, 5, 5)})
    with pytest.raises(InputError, match="tissue"):
        SimulateUltrasoundd("mr", tissue="pet")({"mr": pair(2)[0]})
    assert SimulateUltrasoundd("mr", allow_missing_keys=True)({}) == {}


def test_aliases():
    for name in ("StandardizedUptakeValued", "SimulateUltrasoundd"):
        assert all(getattr(intensity, name[:-1] + end) is getattr(intensity, name) for end in ("D", "Dict"))

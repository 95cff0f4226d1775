"""The rows that the original project printed, to the printed precision (it needs GPT-2 and the release)."""

from __future__ import annotations

from pathlib import Path

import pytest

from onesense.errors import NetworkError
from onesense.features.extract import ExtractSettings, extract
from onesense.model.load import load_model
from onesense.sae.load import load_dictionary

# feature: std, skewness, kurtosis, sparsity, first words (the original's README)
ROWS = {
    0: (0.189715, 0.764197, 9.097904, -3.760490, "ĠBrigade Ġbrigade ĠBrig Ġbrig Ġbattalion ĠBatt"),
    1: (0.166483, 0.083962, 3.300045, -10.000000, "existent ASC arius ouses ucking ensical aryn"),
    2: (0.203762, 0.698958, 6.764231, -3.327929, "ĠMRI MRI Ġultrasound Ġautopsy Ġmicroscope"),
    3: (0.189168, 0.627483, 8.012758, -3.775403, "Ġcontingent Ġconting Ġcontingency Ġconditioned"),
    4: (0.234610, 1.676332, 10.387130, -3.804149, "40 50 60 80 30 70 20 41 45 39"),
    24571: (0.164352, 0.128330, 3.678063, -4.767260, "Land ĠSub iors anka Else ĠSkies Ġsubs Gra"),
    24572: (0.185225, 0.987419, 12.197604, -3.828456, "Ġintent ĠIntent intent Ġintention Ġintentions"),
    24573: (0.160370, 0.087656, 3.220747, -10.000000, "picture ilee gee Reviewed Ġre kefeller ĠPatch"),
    24574: (0.161196, 0.014309, 3.154507, -10.000000, "thy leans ĠLaksh NetMessage GR ivable lean"),
    24575: (0.165507, -0.006775, 3.192047, -5.010295, '>( hest Ġpatiently "}, paralle Fact anthrop'),
}


@pytest.mark.hub
def test_rows_of_gpt2_small_res_jb(tmp_path: Path) -> None:
    try:
        dictionary = load_dictionary(release="gpt2-small-res-jb", sae_id="blocks.0.hook_resid_pre")
        model = load_model("gpt2-small", device="cpu")
    except NetworkError as error:
        pytest.skip(f"GPT-2 small and its dictionary are neither cached nor reachable: {error.message}")
    settings = ExtractSettings(with_contexts=False)
    extraction = extract(model, dictionary, tmp_path / "run", settings)
    assert extraction.lens.n_features == 24_576
    for feature, (std, skewness, kurtosis, sparsity, words) in ROWS.items():
        lens = extraction.lens
        assert abs(lens.mean[feature]) < 1e-6
        assert lens.std[feature] == pytest.approx(std, abs=1e-6)
        assert lens.skewness[feature] == pytest.approx(skewness, abs=5e-6)
        assert lens.kurtosis[feature] == pytest.approx(kurtosis, abs=5e-6)
        assert extraction.sparsity[feature] == pytest.approx(sparsity, abs=1e-6)
        assert " ".join(lens.words(feature, extraction.vocabulary)).startswith(words)

"""Made-up results that look like real ones: what the figures and the report are designed and tested with."""

from __future__ import annotations

import numpy as np
import scipy.cluster.hierarchy
import scipy.spatial.distance
import xarray as xr

LAYERS = [*(f"conv{index}" for index in range(1, 12)), "logits"]
EPOCHS = 13
# First and second formant (Hz) of vowels; noise band (Hz) of fricatives; None for a silence and a burst.
PHONES = {
    "AE": (700, 1750),
    "AA": (710, 1100),
    "IY": (290, 2300),
    "UW": (310, 900),
    "ER": (480, 1350),
    "S": (4200, 7800),
    "SH": (2200, 6500),
    "T": None,
}
CLASSES = {
    **dict.fromkeys("AA AE AH AO EH ER IH IY UH UW".split(), "vowel"),
    **dict.fromkeys("AW AY EY OW OY".split(), "diphthong"),
    **dict.fromkeys("B D G K P T".split(), "stop"),
    **dict.fromkeys("CH DH F HH JH S SH TH V Z".split(), "fricative or affricate"),
    **dict.fromkeys("M N NG".split(), "nasal"),
    **dict.fromkeys("L R W Y".split(), "liquid or glide"),
}
MEL_UNITS = 128


def _mel(hertz: float | np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def mel_centres_hz(units: int = MEL_UNITS) -> np.ndarray:
    mels = np.linspace(0, _mel(8000), units + 2)[1:-1]
    return 700 * (10 ** (mels / 2595) - 1)


def history(epochs: int = EPOCHS) -> xr.Dataset:
    rng = np.random.default_rng(1)
    epoch = np.arange(epochs)
    train = 118 * np.exp(-0.42 * epoch) + 2.2
    train[0] = np.nan
    dev = 121 * np.exp(-0.40 * epoch) + 4.1 + rng.normal(0, 0.3, epochs)
    wer = 100 / (1 + np.exp(1.0 * (epoch - 4.6))) + 9
    wer[:2] = 100
    return xr.Dataset(
        {"train_loss": ("epoch", train), "heldout_loss": ("epoch", dev), "wer": ("epoch", wer)},
        coords={"epoch": epoch},
        attrs={
            "train_utterances": 1400,
            "heldout_utterances": 60,
            "heldout_words": 612,
        },
    )


def similarity(layers: list[str] = LAYERS, epochs: int = EPOCHS) -> xr.Dataset:
    rng = np.random.default_rng(2)
    epoch = np.arange(epochs)
    depth = np.linspace(0, 1, len(layers))
    last, following, matrix = [], [], []
    for sharpness, floor in ((0.9, 0.35), (1.1, 0.2)):
        start = floor + 0.45 * (1 - depth)
        rise = 1 - np.exp(-epoch[None] * (sharpness - 0.6 * depth)[:, None])
        curve = start[:, None] + (1 - start)[:, None] * rise
        curve = np.clip(curve + rng.normal(0, 0.006, curve.shape), 0, 1)
        curve /= np.maximum(curve[:, -1:], curve)[:, -1:]
        curve[:, -1] = 1
        last.append(np.clip(curve, 0, 1))
        step = 1 - (1 - start)[:, None] * np.exp(-epoch[None] * (0.5 + 0.4 * (1 - depth))[:, None]) * 0.8
        step = np.clip(step + rng.normal(0, 0.004, step.shape), 0, 1)
        step[:, -1] = np.nan
        following.append(step)
        apart = np.abs(depth[:, None] - depth[None])
        noise = rng.normal(0, 0.01, apart.shape)
        matrix.append(np.clip(np.exp(-2.2 * apart / sharpness) + (noise + noise.T) * (apart > 0), 0, 1))
    return xr.Dataset(
        {
            "to_last": (("measure", "layer", "epoch"), np.array(last)),
            "to_next": (("measure", "layer", "epoch"), np.array(following)),
            "matrix": (("measure", "layer", "other_layer"), np.array(matrix)),
        },
        coords={"measure": ["svcca", "cka"], "layer": layers, "other_layer": layers, "epoch": epoch},
        attrs={"utterances": 120, "frames": 25310},
    )


def convergence_epochs(layers: list[str] = LAYERS) -> xr.DataArray:
    data = similarity(layers)["to_last"]
    settled = (data > 0.97).values
    epochs = np.full(settled.shape[:2], np.nan)
    for index in np.ndindex(*epochs.shape):
        unsettled = np.flatnonzero(~settled[index])
        epochs[index] = unsettled[-1] + 1 if unsettled.size else 0
    epochs[1, -2] = np.nan
    return xr.DataArray(
        epochs,
        dims=("measure", "layer"),
        coords={"measure": data["measure"], "layer": data["layer"]},
        attrs={"utterances": 120, "frames": 25310},
    )


def input_profile(half: int = 62) -> tuple[xr.DataArray, xr.DataArray]:
    """Profile and counts of the input layer for `PHONES`: formants, noise bands, a burst, fading from the alignment."""
    rng = np.random.default_rng(3)
    offset = np.arange(-half, half + 1)
    mel = _mel(mel_centres_hz())[:, None]
    time = offset[None] * 10.0
    maps = []
    for band in PHONES.values():
        fade = np.exp(-0.5 * (time / 55) ** 2)
        if band is None:
            map_ = 0.9 * np.exp(-0.5 * ((time - 8) / 14) ** 2) - 0.8 * np.exp(-0.5 * ((time + 45) / 25) ** 2)
            map_ = map_ * (0.4 + 0.6 * mel / mel.max())
        elif band[0] > 2000:
            low, high = _mel(band[0]), _mel(band[1])
            inside = 1 / (1 + np.exp(-(mel - low) / 60)) / (1 + np.exp((mel - high) / 60))
            map_ = (1.1 * inside - 0.5 * (mel < 1200)) * fade
        else:
            peaks = sum(np.exp(-0.5 * ((mel - _mel(hertz)) / 95) ** 2) for hertz in band)
            map_ = (1.2 * peaks - 0.35 * np.exp(-0.5 * ((mel - 2500) / 250) ** 2)) * fade
        maps.append(map_ + 0.03 * fade * rng.normal(size=map_.shape))
    values = np.array(maps)
    values[:, :, 0] = np.nan
    groups = [f"phone:{phone}" for phone in PHONES]
    profile = xr.DataArray(
        values,
        dims=("group", "unit", "offset"),
        coords={
            "group": groups,
            "unit": np.arange(MEL_UNITS),
            "offset": offset,
            "time": ("offset", offset * 0.010),
            "frequency": ("unit", mel_centres_hz()),
        },
    )
    totals = np.array([412, 288, 1034, 176, 391, 2210, 167, 1873])
    count = np.minimum(totals[:, None], totals[:, None] - np.abs(offset)[None])
    count = xr.DataArray(count, dims=("group", "offset"), coords={"group": groups, "offset": offset})
    return profile, count


def layer_profile(units: int = 200, half: int = 30) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Profile, counts and responsiveness (Eq. 1) of a hidden layer for two phones."""
    rng = np.random.default_rng(4)
    offset = np.arange(-half, half + 1)
    time = offset * 0.020
    strength = rng.standard_t(2.2, size=(2, units, 1)) * 0.08
    centre = rng.normal(0, 0.03, size=(2, units, 1))
    width = rng.uniform(0.025, 0.07, size=(2, units, 1))
    values = strength * np.exp(-0.5 * ((time - centre) / width) ** 2)
    groups = ["phone:AE", "phone:T"]
    coords = {"group": groups, "unit": np.arange(units), "offset": offset, "time": ("offset", time)}
    profile = xr.DataArray(values, dims=("group", "unit", "offset"), coords=coords)
    responsiveness = np.sign(profile.sum("offset")) * np.abs(profile).sum("offset")
    count = xr.DataArray(
        np.repeat([[412], [1873]], len(offset), axis=1), dims=("group", "offset"), coords={"group": groups}
    )
    return profile, count, responsiveness


def silhouettes(layers: list[str] = LAYERS) -> xr.DataArray:
    rng = np.random.default_rng(5)
    depth = np.linspace(0, 1, len(layers) + 1)
    percentiles = np.array([75, 80, 85, 90, 95])
    grapheme = 0.10 + 0.10 * depth
    phone = 0.16 - 0.10 * np.sin(np.pi * depth) + 0.28 * depth**2
    lift = 0.012 * (percentiles - 85)[None, :]
    values = np.stack([mean[:, None] + lift + rng.normal(0, 0.015, (len(depth), 5)) for mean in (grapheme, phone)])
    values[0, 3, 4] = np.nan
    values[0, 7, :] = np.nan
    return xr.DataArray(
        values,
        dims=("grouping", "layer", "percentile"),
        coords={
            "grouping": ["symbol", "phone"],
            "layer": ["input", *layers],
            "percentile": percentiles,
            "groups": ("grouping", [26, 38]),
        },
    )


def phone_tree() -> tuple[np.ndarray, list[str], dict[str, str], float]:
    """Linkage matrix, labels, classes, and the distance of the 75th percentile."""
    rng = np.random.default_rng(6)
    kinds = sorted(set(CLASSES.values()))
    centres = rng.normal(0, 1.6, size=(len(kinds), 12))
    points = np.array([centres[kinds.index(kind)] + rng.normal(0, 0.7, 12) for kind in CLASSES.values()])
    labels = [f"phone:{phone}" for phone in CLASSES]
    distances = scipy.spatial.distance.pdist(points)
    linkage = scipy.cluster.hierarchy.linkage(distances, method="complete")
    classes = {f"phone:{phone}": kind for phone, kind in CLASSES.items()}
    return linkage, labels, classes, float(np.percentile(distances, 75))


def _bounds(values: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Lower and upper ends along a new last axis, none above 1."""
    return np.stack([values - half, np.minimum(values + half, 1)], axis=-1)


def through_training(layers: list[str] = LAYERS, epochs: int = EPOCHS) -> xr.Dataset:
    """All that is known of similarity through training: intervals, baselines, labels, probes, convergence."""
    rng = np.random.default_rng(7)
    data = similarity(layers, epochs)
    depth, epoch = np.linspace(0, 1, len(layers)), data["epoch"].values
    data["to_first"] = (
        data["to_last"].dims,
        np.clip(0.25 + 0.75 * np.exp(-epoch * 0.5)[None] * np.ones((2, len(layers), 1)) - 0.1 * depth[:, None], 0, 1),
    )
    data["to_first"][:, :, 0] = 1
    for name in ("to_last", "to_next", "to_first"):
        values = data[name].values
        data[f"{name}_interval"] = ((*data[name].dims, "bound"), _bounds(values, 0.004 + 0.05 * (1 - values)))
    nodes = ["mel", "phone", "speaker"]
    learned = (1 - np.exp(-epoch / 3))[:, None]
    mel = 0.85 - 0.6 * depth[None] * learned
    phone = 0.12 + 0.5 * learned * np.sin(np.pi * np.minimum(1, 0.2 + 0.7 * depth))[None]
    speaker = 0.3 - 0.22 * depth[None] * learned
    to_node = np.stack([mel, phone, speaker], axis=-1).transpose(1, 0, 2)
    to_node = np.stack([to_node, 0.85 * to_node]) + rng.normal(0, 0.008, (2, *to_node.shape))
    data["to_node"] = (("measure", "layer", "epoch", "node"), to_node)
    data["to_node_interval"] = ((*data["to_node"].dims, "bound"), _bounds(to_node, np.full(to_node.shape, 0.03)))
    probe = np.stack([np.full(len(layers), np.nan), 0.4 + 0.4 * np.sin(1.9 * depth), 0.6 - 0.45 * depth], axis=1)
    data["probe"] = (("layer", "node"), probe)
    data["probe_chance"] = ("node", [np.nan, 0.11, 0.09])
    matrix = data["matrix"].values
    data["matrix_interval"] = ((*data["matrix"].dims, "bound"), _bounds(matrix, 0.03 * (1 - matrix)))
    data["matrix_baseline"] = (
        (*data["matrix"].dims, "repairing"),
        0.12 + 0.02 * rng.random((*matrix.shape, 5)),
    )
    apart = np.abs(depth[:, None] - depth[None])
    data["matrix_random"] = (data["matrix"].dims, np.stack([np.exp(-3.6 * apart), np.exp(-2.4 * apart)]))
    settled = convergence_epochs(layers)
    data["converged"] = settled
    half = np.where(np.isfinite(settled.values), 0.4 + 0.1 * np.arange(len(layers)), np.nan)
    data["converged_interval"] = (
        ("measure", "layer", "bound"),
        np.stack([settled.values - half, settled.values + half], axis=-1),
    )
    data["bottom_up"] = ("measure", [0.84, -0.12])
    data["bottom_up_interval"] = (("measure", "bound"), [[0.71, 0.93], [-0.4, 0.2]])
    return data.assign_coords(bound=["low", "high"], node=nodes).assign_attrs(
        level=0.95, train_frames=20100, test_frames=5310, test_speakers=2
    )


def adjacent(networks: dict[str, int] | None = None) -> xr.Dataset:
    """Similarity of neighbours in converged networks of different depth."""
    rng = np.random.default_rng(8)
    networks = networks or {"conv": 11, "conv-LSTM": 7, "LSTM": 4, "transformer": 12}
    steps = np.arange(1, max(networks.values()) + 1)
    values = np.full((2, len(networks), len(steps)), np.nan)
    for place, depth in enumerate(networks.values()):
        for measure in range(2):
            rise = 0.55 + 0.06 * place + 0.3 * (1 - np.exp(-steps[:depth] / 3))
            values[measure, place, :depth] = np.clip(rise - 0.1 * measure + rng.normal(0, 0.02, depth), 0, 1)
    return xr.Dataset(
        {
            "adjacent": (("measure", "network", "step"), values),
            "adjacent_interval": (
                ("measure", "network", "step", "bound"),
                _bounds(values, 0.03 * np.ones(values.shape)),
            ),
        },
        coords={"measure": ["svcca", "cka"], "network": list(networks), "step": steps, "bound": ["low", "high"]},
        attrs={"utterances": 120, "frames": 25310, "level": 0.95},
    )


NETWORKS = [
    "conv 5",
    "conv 11",
    "conv-LSTM 7",
    "LSTM 4",
    "LSTM 8",
    "transformer 6",
    "transformer 12",
    "wav2letter",
    "g2p",
]


def errors(networks: list[str] = NETWORKS) -> xr.Dataset:
    rng = np.random.default_rng(9)
    count = len(networks)
    close = np.linspace(0.55, 0.93, count) + rng.normal(0, 0.02, count)
    close = np.stack([close, close - 0.12 + rng.normal(0, 0.03, count)])
    wer = np.stack([34 - 28 * close[0] + rng.normal(0, 1.2, count), 80 - 50 * close[1] + rng.normal(0, 5, count)])
    # Three of them are one another's neighbours.
    close[0, 4:7] = close[0, 4] + np.array([0, 0.004, 0.009])
    wer[0, 4:7] = wer[0, 4] + np.array([0, 0.15, -0.2])
    table = xr.Dataset(
        {
            "similarity": (("condition", "network"), close),
            "wer": (("condition", "network"), wer),
            "rank_correlation": ("condition", [-0.87, -0.55]),
            "rank_correlation_interval": (("condition", "bound"), [[-0.98, -0.42], [-0.91, 0.13]]),
        },
        coords={"condition": ["clean", "noise 10 dB"], "network": networks, "bound": ["low", "high"]},
        attrs={"level": 0.95},
    )
    table["similarity"].attrs["long_name"] = "SVCCA of adjacent layers, mean"
    return table


def networks_matrix(
    networks: tuple[str, ...] = ("a", "b", "wav2letter"), epochs: tuple[int, ...] = (0, 18), layers: int = 3
):
    labels = [f"{n} / epoch {e} / conv{layer + 1}" for n in networks for e in epochs for layer in range(layers)]
    key = np.array([(n, e / 20, layer) for n in range(len(networks)) for e in epochs for layer in range(layers)], float)
    apart = np.abs(key[:, None] - key[None])
    values = np.exp(-0.5 * (apart[..., 0] > 0) - 0.9 * apart[..., 1] - 0.35 * apart[..., 2])
    dims = ("measure", "representation", "other_representation")
    return xr.Dataset(
        {"matrix": (dims, np.stack([values, values**1.5]))},
        coords={"measure": ["svcca", "cka"], "representation": labels, "other_representation": labels},
        attrs={"utterances": 120, "frames": 25310},
    )

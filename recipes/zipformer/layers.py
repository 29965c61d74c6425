"""What the layers of a recogniser that others trained represent: phones by linear probe, CKA and SVCCA.

    python recipes/zipformer/layers.py NETWORK_FOLDER MANIFEST --out FOLDER

NETWORK_FOLDER holds `model.py` with `load()` and `fbank(samples)`, MANIFEST speech with hand-aligned phones. The
network has no padding mask, no letters and no CTC head; an adapter of six lines makes it something otoscope looks into.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch

import otoscope
from otoscope.hear.utterance import load_audio
from otoscope.study.speech import Speech
from otoscope.study.summaries import network_summary

# Half of the receptive field of the last frames lies in the silence that the network expects at the end.
TAIL_S, SAMPLE_RATE = 0.3, 16_000


class Encoder(torch.nn.Module):
    """The encoder as a network of frames."""

    mels = 80

    def __init__(self, transducer: torch.nn.Module):
        super().__init__()
        self.encoder = transducer.encoder

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.encoder(features)
        return encoded, torch.full((len(features),), encoded.shape[1])


def main() -> None:
    """Read the options, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=Path("zipformer"))
    parser.add_argument("--interval", type=float, default=None)
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("model", options.network / "model.py")
    assert spec is not None
    assert spec.loader is not None
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    speech = Speech()
    for utterance in otoscope.read_corpus(options.corpus):
        samples = np.concatenate([load_audio(utterance)[0], np.zeros(int(TAIL_S * SAMPLE_RATE), np.float32)])
        speech.utterances.append(utterance)
        speech.features.append(torch.from_numpy(model.fbank(samples)))
    found = otoscope.compare(
        {"zipformer": Encoder(model.load())},
        speech,
        layers=["encoder.embed", *(f"encoder.stacks.{stack}" for stack in range(6))],
        nodes=["mel", "phone"],
        measures=("cka", "cka_debiased", "svcca"),
        interval=options.interval,
        # No padding mask: each utterance alone.
        batch_size=1,
    )
    otoscope.save_table(found, options.out, "zipformer")
    print(network_summary(found, ["cka", "svcca"]))
    one = found.isel(network=0, epoch=0)
    print("layer               probe            cka(phone)  svcca(phone)  cka(mel)")
    for layer in one["layer"].values:
        at = one.sel(layer=layer)
        probe = float(at["probe"].sel(node="phone"))
        low, high = at["probe_interval"].sel(node="phone").values
        similar = [float(at[name].sel(node=node)) for name, node in
                   (("cka_node", "phone"), ("svcca_node", "phone"), ("cka_node", "mel"))]  # fmt: skip
        print(f"{layer:18} {probe:.2f} ({low:.2f} to {high:.2f})  " + "  ".join(f"{value:10.3f}" for value in similar))
    print(f"input: probe {float(one['probe_input'].sel(node='phone')):.2f}, ", end="")
    print(f"commonest phone {float(one['probe_chance'].sel(node='phone')):.2f}; ", end="")
    print(f"{found.attrs['test_frames']} frames of {found.attrs['test_speakers']} speakers; {found.attrs['notes']}")


if __name__ == "__main__":
    main()

"""Look inside networks that listen: what each layer of a speech recogniser represents, and when it came to.

Names are resolved when they are first used, so that `import otoscope` is quick and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "OtoscopeError": "otoscope.base",
    "Utterance": "otoscope.hear.corpus",
    "read_corpus": "otoscope.hear.corpus",
    "select": "otoscope.hear.corpus",
    "noisy": "otoscope.hear.noise",
    "at_speed": "otoscope.hear.perturb",
    "with_room": "otoscope.hear.perturb",
    "write_manifest": "otoscope.hear.corpus",
    "import_corpus": "otoscope.hear.readers",
    "validate": "otoscope.hear.validate",
    "speak_corpus": "otoscope.hear.speak",
    "features": "otoscope.hear.audio",
    "read_lexicon": "otoscope.hear.lexicon",
    "Pronouncer": "otoscope.learn.pronounce",
    "load": "otoscope.learn.checkpoint",
    "list_layers": "otoscope.probe.layers",
    "tap": "otoscope.probe.taps",
    "similarity": "otoscope.reduce.similarity",
    "similarity_matrix": "otoscope.reduce.similarity",
    "Profiles": "otoscope.reduce.profiles",
    "cluster_groups": "otoscope.reduce.clusters",
    "silhouettes": "otoscope.reduce.clusters",
    "compare": "otoscope.study.compare",
    "through_training": "otoscope.study.through_training",
    "similarity_and_performance": "otoscope.study.performance",
    "write_performance": "otoscope.study.report_performance",
    "gradnap": "otoscope.study.gradnap",
    "gradnap_sums": "otoscope.study.gradnap",
    "gradnap_through_training": "otoscope.study.gradnap_training",
    "ProfileSums": "otoscope.reduce.gradnap",
    "cluster_purity": "otoscope.reduce.purity",
    "effective_fields": "otoscope.reduce.fields",
    "unit_topography": "otoscope.reduce.topography",
    "explained": "otoscope.study.explained",
    "cascade": "otoscope.study.cascade",
    "shuffled_labels": "otoscope.study.controls",
    "split_half": "otoscope.study.controls",
    "random_silhouettes": "otoscope.study.controls",
    "optimal_inputs": "otoscope.study.optimal",
    "optimal_inputs_of_groups": "otoscope.study.optimal",
    "save_optimal_inputs": "otoscope.study.optimal",
    "sound": "otoscope.hear.sound",
    "write_sound": "otoscope.hear.sound",
    "read_recipe": "otoscope.study.recogniser",
    "train_vocabulary": "otoscope.learn.units",
    "Decoding": "otoscope.learn.transcribe",
    "train_recogniser": "otoscope.study.recogniser",
    "score_recogniser": "otoscope.study.recogniser",
    "score_files": "otoscope.learn.score_files",
    "score_interval": "otoscope.learn.significance",
    "compare_scores": "otoscope.learn.significance",
    "align": "otoscope.study.alignments",
    "write_alignment": "otoscope.study.alignments",
    "alignment_quality": "otoscope.study.alignment_quality",
    "profile_agreement": "otoscope.study.alignment_quality",
    "add_textgrids": "otoscope.hear.label_files",
    "listen": "otoscope.study.speech",
    "save_table": "otoscope.study.results",
    "save_profiles": "otoscope.study.results",
    "write_report": "otoscope.study.report",
    "run_demo": "otoscope.study.demo",
    "gradnap_scale": "otoscope.study.reproduce_gradnap",
    "reproduce_insights": "otoscope.study.insights",
    "reproduce_gradnap": "otoscope.study.reproduce_gradnap",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'otoscope' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

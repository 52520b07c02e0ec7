"""The model that simulated replicas pretend to serve: tokenizer and chat template, no weights.

``tokenizer.json`` and ``tokenizer_config.json`` are made by ``python -m sim.model.build``.
"""

from pathlib import Path

MODEL_DIRECTORY = Path(__file__).parent

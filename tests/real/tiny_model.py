"""Makes a Llama with random weights, a tokenizer trained on Python's own library, and a chat template; offline.

Runs in vLLM's environment (prepare.sh). The shape of tokenizer and template is that of current chat models: NFC, a
splitting pattern, special tokens and added ones, tools, thinking.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sysconfig
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CHAT_TEMPLATE = Path(__file__).parents[1] / "engine" / "fixtures" / "templates" / "agent.jinja"
VOCABULARY = 4096
CONTEXT_TOKENS = 32768
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
HEAD_DIM = 32
"""The CPU attention kernels have none smaller."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--hidden", type=int, default=128, help="hidden size, a multiple of 64")
    parser.add_argument("--layers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    write_tokenizer(tokenizer, arguments.directory)
    write_model(tokenizer, arguments.directory, arguments.hidden, arguments.layers)
    print(f"made {arguments.directory}")


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(ADDED_TOKENS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library = Path(sysconfig.get_paths()["stdlib"])
    tokenizer.train([str(file) for file in sorted(library.glob("*.py"))], trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in ADDED_TOKENS])
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    tokenizer.save(str(directory / "tokenizer.json"))
    shutil.copy(CHAT_TEMPLATE, directory / "chat_template.jinja")
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT_TOKENS,
            "bos_token": "<|endoftext|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
        },
    )


def write_model(tokenizer: Tokenizer, directory: Path, hidden: int, layers: int) -> None:
    vocabulary = tokenizer.get_vocab_size()
    heads = hidden // HEAD_DIM
    ids = {
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **ids,
    }
    write_json(directory / "config.json", config)
    write_json(directory / "generation_config.json", ids)
    weights = random_weights(vocabulary, hidden, heads, layers)
    # Answers are text: no special or added token is ever the likeliest.
    for text in SPECIAL_TOKENS + ADDED_TOKENS:
        weights["lm_head.weight"][tokenizer.token_to_id(text)] = 0
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def random_weights(vocabulary: int, hidden: int, heads: int, layers: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * 0.08).to(torch.bfloat16)

    def ones() -> torch.Tensor:
        return torch.ones(hidden, dtype=torch.bfloat16)

    weights = {
        "model.embed_tokens.weight": matrix(vocabulary, hidden),
        "lm_head.weight": matrix(vocabulary, hidden),
        "model.norm.weight": ones(),
    }
    for layer in range(layers):
        weights |= {
            f"model.layers.{layer}.{name}": tensor
            for name, tensor in {
                "self_attn.q_proj.weight": matrix(hidden, hidden),
                "self_attn.k_proj.weight": matrix(hidden // 2, hidden),
                "self_attn.v_proj.weight": matrix(hidden // 2, hidden),
                "self_attn.o_proj.weight": matrix(hidden, hidden),
                "mlp.gate_proj.weight": matrix(2 * hidden, hidden),
                "mlp.up_proj.weight": matrix(2 * hidden, hidden),
                "mlp.down_proj.weight": matrix(hidden, 2 * hidden),
                "input_layernorm.weight": ones(),
                "post_attention_layernorm.weight": ones(),
            }.items()
        }
    return weights


def write_json(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

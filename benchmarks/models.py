"""The models that are timed: the default one, and two of random weights."""

import shutil
from pathlib import Path

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from ethos.chat import Chat
from ethos.models import load_tokenizer_chat

GEMMA_LAYERS = 18


def folder_of(kind: str, base: Path, scratch: Path, *, quick: bool) -> Path:
    """The folder of a row's model, made where it is none of the disk's. Quick runs take small ones throughout."""
    if kind == "default" and not quick:
        return base
    folder = scratch / ("small" if kind == "default" else kind)
    if not folder.exists():
        chat = load_tokenizer_chat(base)
        torch.manual_seed(0)
        model = gemma(chat, quick=quick) if kind == "vocabulary" else small(chat)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        model.to(torch.bfloat16).save_pretrained(partial)  # type: ignore[arg-type]  # as in ethos.models
        chat.tokenizer.save_pretrained(partial)
        partial.rename(folder)
    return folder


def small(chat: Chat) -> PreTrainedModel:
    """Four narrow layers over the tokenizer's vocabulary."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(chat.tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=3,
            num_key_value_heads=1,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            initializer_range=0.1,  # louder than at birth: what is said then depends on what came before
            eos_token_id=chat.tokenizer.eos_token_id,
            pad_token_id=chat.tokenizer.pad_token_id,
        )
    )


def gemma(chat: Chat, *, quick: bool) -> PreTrainedModel:
    """Gemma-3-270M's shape (its published config.json): 100M weights in layers, 168M in the vocabulary."""
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=max(4096, len(chat.tokenizer)) if quick else 262144,
            hidden_size=64 if quick else 640,
            intermediate_size=128 if quick else 2048,
            num_hidden_layers=2 if quick else GEMMA_LAYERS,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=16 if quick else 256,
            max_position_embeddings=32768,
            sliding_window=512,
            query_pre_attn_scalar=256,
            eos_token_id=chat.tokenizer.eos_token_id,
            pad_token_id=chat.tokenizer.pad_token_id,
        )
    )

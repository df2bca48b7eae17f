"""The names and shapes of all tensors of a checkpoint, from its configuration (docs/model.md, sections 1 and 8).

`thinker.visual.*` is left out: the published checkpoint has it, but no service reads it. The table of audio embeddings
is listed under both of its names, and a checkpoint may store it under one of them or both.
"""

from __future__ import annotations

from services.runtime.checkpoint.config import AudioTowerConfig, ChromaConfig, CodecConfig, StackConfig

Shapes = dict[str, tuple[int, ...]]


def expected_tensors(config: ChromaConfig) -> Shapes:
    """Names and shapes, in the order of the published checkpoint's parts."""
    width = config.thinker.text.width
    audio_table = (config.codebooks * config.code_vocab_size, config.audio_width)
    return {
        **_audio_tower("thinker.audio_tower.", config.thinker.audio),
        "thinker.model.embed_tokens.weight": (config.thinker.vocab_size, width),
        **_stack("thinker.model.", config.thinker.text),
        "thinker.lm_head.weight": (config.thinker.vocab_size, width),
        **_stack("backbone.model.", config.backbone),
        "backbone.codebook0_head.weight": (config.code_vocab_size, config.backbone.width),
        "backbone.audio_embedding.embed_audio_tokens.weight": audio_table,
        "decoder.projection.weight": (config.decoder.width, config.audio_width),
        **_stack("decoder.model.", config.decoder),
        "decoder.codebook_head.weight": (config.codebooks - 1, config.decoder.width, config.code_vocab_size),
        "decoder.audio_embedding.embed_audio_tokens.weight": audio_table,
        **_codec("codec_model.", config.codec),
    }


def _linear(name: str, outputs: int, inputs: int, *, bias: bool = False) -> Shapes:
    weight: Shapes = {f"{name}.weight": (outputs, inputs)}
    return {**weight, f"{name}.bias": (outputs,)} if bias else weight


def _layer_norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _stack(prefix: str, stack: StackConfig) -> Shapes:
    shapes: Shapes = {}
    kv_width = stack.kv_heads * stack.head_dim
    for index in range(stack.layers):
        layer = f"{prefix}layers.{index}."
        shapes |= _linear(f"{layer}self_attn.q_proj", stack.heads * stack.head_dim, stack.width, bias=stack.qkv_bias)
        shapes |= _linear(f"{layer}self_attn.k_proj", kv_width, stack.width, bias=stack.qkv_bias)
        shapes |= _linear(f"{layer}self_attn.v_proj", kv_width, stack.width, bias=stack.qkv_bias)
        shapes |= _linear(f"{layer}self_attn.o_proj", stack.width, stack.heads * stack.head_dim)
        shapes |= _linear(f"{layer}mlp.gate_proj", stack.ffn_width, stack.width)
        shapes |= _linear(f"{layer}mlp.up_proj", stack.ffn_width, stack.width)
        shapes |= _linear(f"{layer}mlp.down_proj", stack.width, stack.ffn_width)
        shapes[f"{layer}input_layernorm.weight"] = (stack.width,)
        shapes[f"{layer}post_attention_layernorm.weight"] = (stack.width,)
    shapes[f"{prefix}norm.weight"] = (stack.width,)
    return shapes


def _audio_tower(prefix: str, tower: AudioTowerConfig) -> Shapes:
    width = tower.width
    shapes: Shapes = {
        **_conv(f"{prefix}conv1", width, tower.mel_bins, 3),
        **_conv(f"{prefix}conv2", width, width, 3),
        f"{prefix}audio_bos_eos_token.weight": (2, tower.output_width),
    }
    for index in range(tower.layers):
        layer = f"{prefix}layers.{index}."
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= _linear(f"{layer}self_attn.{projection}", width, width, bias=projection != "k_proj")
        shapes |= _layer_norm(f"{layer}self_attn_layer_norm", width)
        shapes |= _linear(f"{layer}fc1", tower.ffn_width, width, bias=True)
        shapes |= _linear(f"{layer}fc2", width, tower.ffn_width, bias=True)
        shapes |= _layer_norm(f"{layer}final_layer_norm", width)
    return {
        **shapes,
        **_layer_norm(f"{prefix}ln_post", width),
        **_linear(f"{prefix}proj", tower.output_width, width, bias=True),
    }


def _conv(name: str, outputs: int, inputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, kernel), f"{name}.bias": (outputs,)}


def _codec(prefix: str, codec: CodecConfig) -> Shapes:
    """Mimi. The layer numbers of encoder and decoder include the activations between the convolutions."""
    shapes = _codec_encoder(f"{prefix}encoder.layers.", codec)
    shapes |= _codec_transformer(f"{prefix}encoder_transformer.", codec)
    stride = round(codec.sample_rate_hz / codec.frame_rate_hz)
    for ratio in codec.ratios:
        stride //= ratio
    if stride > 1:
        shapes[f"{prefix}downsample.conv.weight"] = (codec.width, codec.width, 2 * stride)
        shapes[f"{prefix}upsample.conv.weight"] = (codec.width, codec.width // codec.upsample_groups, 2 * stride)
    shapes |= _codec_transformer(f"{prefix}decoder_transformer.", codec)
    shapes |= _codec_decoder(f"{prefix}decoder.layers.", codec)
    acoustic = codec.codebooks - codec.semantic_codebooks
    for kind, codebooks in (("semantic", codec.semantic_codebooks), ("acoustic", acoustic)):
        shapes |= _quantizer(f"{prefix}quantizer.{kind}_residual_vector_quantizer.", codec, codebooks)
    return shapes


def _codec_encoder(prefix: str, codec: CodecConfig) -> Shapes:
    shapes = _conv(f"{prefix}0.conv", codec.filters, 1, codec.kernel_size)
    width, index = codec.filters, 1
    for ratio in reversed(codec.ratios):
        for _ in range(codec.residual_layers):
            shapes |= _residual_block(f"{prefix}{index}.", codec, width)
            index += 1
        shapes |= _conv(f"{prefix}{index + 1}.conv", 2 * width, width, 2 * ratio)
        width, index = 2 * width, index + 2
    return {**shapes, **_conv(f"{prefix}{index + 1}.conv", codec.width, width, codec.last_kernel_size)}


def _codec_decoder(prefix: str, codec: CodecConfig) -> Shapes:
    width = codec.filters * 2 ** len(codec.ratios)
    shapes = _conv(f"{prefix}0.conv", width, codec.width, codec.kernel_size)
    index = 1
    for ratio in codec.ratios:
        width //= 2
        shapes[f"{prefix}{index + 1}.conv.weight"] = (2 * width, width, 2 * ratio)  # transposed: the inputs are axis 0
        shapes[f"{prefix}{index + 1}.conv.bias"] = (width,)
        index += 2
        for _ in range(codec.residual_layers):
            shapes |= _residual_block(f"{prefix}{index}.", codec, width)
            index += 1
    return {**shapes, **_conv(f"{prefix}{index + 1}.conv", 1, width, codec.last_kernel_size)}


def _residual_block(prefix: str, codec: CodecConfig, width: int) -> Shapes:
    narrow = width // codec.compress
    return {
        **_conv(f"{prefix}block.1.conv", narrow, width, codec.residual_kernel_size),
        **_conv(f"{prefix}block.3.conv", width, narrow, 1),
        **(_conv(f"{prefix}shortcut.conv", width, width, 1) if codec.conv_shortcut else {}),
    }


def _codec_transformer(prefix: str, codec: CodecConfig) -> Shapes:
    shapes: Shapes = {}
    query_width, kv_width, bias = codec.heads * codec.head_dim, codec.kv_heads * codec.head_dim, codec.attention_bias
    for index in range(codec.layers):
        layer = f"{prefix}layers.{index}."
        shapes |= _linear(f"{layer}self_attn.q_proj", query_width, codec.width, bias=bias)
        shapes |= _linear(f"{layer}self_attn.k_proj", kv_width, codec.width, bias=bias)
        shapes |= _linear(f"{layer}self_attn.v_proj", kv_width, codec.width, bias=bias)
        shapes |= _linear(f"{layer}self_attn.o_proj", codec.width, query_width, bias=bias)
        shapes |= _linear(f"{layer}mlp.fc1", codec.ffn_width, codec.width)
        shapes |= _linear(f"{layer}mlp.fc2", codec.width, codec.ffn_width)
        shapes |= _layer_norm(f"{layer}input_layernorm", codec.width)
        shapes |= _layer_norm(f"{layer}post_attention_layernorm", codec.width)
        shapes[f"{layer}self_attn_layer_scale.scale"] = (codec.width,)
        shapes[f"{layer}mlp_layer_scale.scale"] = (codec.width,)
    return shapes


def _quantizer(prefix: str, codec: CodecConfig, codebooks: int) -> Shapes:
    shapes: Shapes = {}
    for index in range(codebooks):
        codebook = f"{prefix}layers.{index}.codebook."
        shapes[f"{codebook}initialized"] = (1,)
        shapes[f"{codebook}cluster_usage"] = (codec.codebook_size,)
        shapes[f"{codebook}embed_sum"] = (codec.codebook_size, codec.codebook_dim)
    if codec.quantizer_width != codec.width:
        shapes[f"{prefix}input_proj.weight"] = (codec.quantizer_width, codec.width, 1)
        shapes[f"{prefix}output_proj.weight"] = (codec.width, codec.quantizer_width, 1)
    return shapes

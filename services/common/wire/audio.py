"""The one definition of the audio geometry (docs/model.md, sections 1 and 7)."""

SAMPLE_RATE_HZ = 24_000
"""Rate of the codec: replies and voice prompts."""

FRAME_SAMPLES = 1_920
"""Samples of one code frame, 80 ms."""

FRAME_RATE_HZ = SAMPLE_RATE_HZ / FRAME_SAMPLES  # 12.5

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ  # 0.08

FRAMES_PER_THOUGHT = 2
"""Thought i comes in with frame 2i (docs/model.md, section 3)."""

THOUGHT_S = FRAMES_PER_THOUGHT * FRAME_S  # 0.16

CODEBOOKS = 8
"""Codes of a frame: codebook 0 is semantic, 1 to 7 acoustic."""

CODEBOOK_SIZE = 2_048
"""The most codes that a codec codebook may hold, as many as the published one does.

The checkpoint says how many a codebook has (`codec_config.codebook_size`). The speech generator's heads can produce
larger codes; these are masked.
"""

HEARING_RATE_HZ = 16_000
"""Sample rate of the user's speech at the reasoner."""

MEL_HOP_SAMPLES = 160
"""Samples of HEARING_RATE_HZ between two mel frames: 10 ms."""


def tokens_of_mel_frames(mel_frames: int) -> int:
    """Return how many prompt tokens a recording of `mel_frames` takes: one for each 4 frames (40 ms).

    The audio tower halves the frames with a convolution of stride 2 and pools the result by 2, without padding.
    """
    after_convolution = (mel_frames - 1) // 2 + 1 if mel_frames else 0
    return max((after_convolution - 2) // 2 + 1, 0)

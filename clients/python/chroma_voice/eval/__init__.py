"""The quality of spoken replies: `chroma-voice eval`, whose parts `make eval-nano` uses too. It needs the extra `eval`.

A pair is a question and a voice. Each pair is asked of a running deployment; the reply's sound is compared with its
text, and with the voice that was enrolled.
"""
